//! Derives how much may wait in memory, and how many workers there are, from the memory that the process may use.
//!
//! `Relay::start` calls it once. A container with little memory kills a process that takes more, and with it every
//! connection. So the defaults leave half of the memory to everything that is not counted.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;
use procfs::{FromRead as _, ProcessCGroup, ProcessCGroups};

use crate::config::{Config, HumanSize, Limits, MAX_WORKERS, Warning};

/// Memory of a worker that `limits.max_buffered_bytes` does not count: its reads, its inbox and room to spare.
const BYTES_PER_WORKER: u64 = 10 << 20;

/// Derived sizes are whole multiples of this.
const STEP: u64 = 1 << 20;

/// The files of a control group that limit its memory: the hard limit and the one that slows it down in version 2, and the
/// hard limit in version 1.
const LIMIT_FILES: [&str; 3] = ["memory.max", "memory.high", "memory.limit_in_bytes"];

/// The memory that the process may use. Displays as `96 MiB (control group)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// The cause of the limit.
    pub bound: Bound,
}

/// The cause of a limit on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The control group of the process, or one above it. Containers and services have one.
    ControlGroup,
    /// The machine has no more.
    Machine,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = match self.bound {
            Bound::ControlGroup => "control group",
            Bound::Machine => "machine",
        };
        write!(f, "{} ({bound})", HumanSize(self.bytes))
    }
}

impl MemoryLimit {
    /// The limit of this process, as the system below `root` tells it; `None` if it does not.
    pub(super) fn find(root: &Path) -> Option<MemoryLimit> {
        let group = group_limit(root).map(|bytes| MemoryLimit {
            bytes,
            bound: Bound::ControlGroup,
        });
        let machine = machine_memory(root).map(|bytes| MemoryLimit {
            bytes,
            bound: Bound::Machine,
        });
        // Without a limit, version 1 shows a huge number. Of equals, `min_by_key` takes the first.
        [machine, group]
            .into_iter()
            .flatten()
            .min_by_key(|limit| limit.bytes)
    }
}

/// The memory of the machine.
fn machine_memory(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1 << 10)
}

/// The smallest limit of the process's control groups and of all groups above them.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = ProcessCGroups::from_file(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read(root.join("proc/self/mountinfo")).ok()?;
    // A line that the parser does not understand is another mount's.
    let mounts: Vec<MountInfo> = String::from_utf8_lossy(&mounts)
        .lines()
        .filter_map(|line| MountInfo::from_line(line).ok())
        .collect();
    let folders = groups
        .0
        .iter()
        .filter_map(|group| path_to_root(group, &mounts))
        .flatten();
    folders
        .flat_map(|folder| LIMIT_FILES.map(|file| folder.join(file)))
        .filter_map(|file| limit_in(&root.join(file.strip_prefix("/").unwrap_or(&file))))
        .min()
}

/// The folders of a group and of all groups above it that are mounted; `None` if it does not limit memory.
fn path_to_root(group: &ProcessCGroup, mounts: &[MountInfo]) -> Option<Vec<PathBuf>> {
    let inside = |mount: &MountInfo| {
        let inside = Path::new(&group.pathname).strip_prefix(&mount.root);
        inside.map(Path::to_owned).ok()
    };
    let serving = || mounts.iter().filter(|mount| serves(mount, group));
    // A container may see only its own group. If it is known by a name of the machine, the mount itself is this group.
    let (mount, inside) = serving()
        .find_map(|mount| Some((mount, inside(mount)?)))
        .or_else(|| Some((serving().next()?, PathBuf::new())))?;
    let folders = inside.ancestors().map(|part| mount.mount_point.join(part));
    Some(folders.collect())
}

/// Whether the mount shows the tree of this group. The group of version 2 has no controllers; in version 1, the controller
/// for memory has a tree.
fn serves(mount: &MountInfo, group: &ProcessCGroup) -> bool {
    if group.controllers.is_empty() {
        return mount.fs_type == "cgroup2";
    }
    let limits_memory = group.controllers.iter().any(|name| name == "memory");
    limits_memory && mount.fs_type == "cgroup" && mount.super_options.contains_key("memory")
}

/// The number in the file; `None` if there is no such file, or if it says `max`.
fn limit_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The sizes that follow from the configuration and the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The number of workers.
    pub(super) workers: u16,
    /// `limits.max_buffered_bytes`, never 0.
    pub(super) max_buffered_bytes: usize,
}

impl Sizes {
    /// As configured. If `server.workers` is 0, there is one worker for each of `cores`, as far as memory suffices. If
    /// `limits.max_buffered_bytes` is 0, it is half of the `memory`, but at most [`Limits::MOST_DERIVED_BYTES`].
    pub(super) fn derive(config: &Config, cores: usize, memory: Option<MemoryLimit>) -> Sizes {
        let max_buffered_bytes = match config.limits.max_buffered_bytes {
            0 => memory.map_or(Limits::MOST_DERIVED_BYTES, half),
            configured => configured,
        };
        let workers = match config.server.workers {
            0 => {
                let fitting = max_buffered_bytes / config.least_bytes_per_shard();
                cores.min(MAX_WORKERS).min(fitting).max(1)
            }
            configured => configured,
        };
        Sizes {
            workers: u16::try_from(workers).expect("the configuration allows at most MAX_WORKERS"),
            max_buffered_bytes,
        }
    }

    /// Logs that there are fewer workers than an operator expects.
    pub(super) fn report(self, config: &Config, cores: usize) {
        let wanted = cores.min(MAX_WORKERS);
        if config.server.workers == 0 && usize::from(self.workers) < wanted {
            tracing::info!(
                workers = self.workers,
                cores,
                max_buffered_bytes = %HumanSize(self.max_buffered_bytes as u64),
                bytes_per_worker = %HumanSize(config.least_bytes_per_shard() as u64),
                "fewer workers than cores, because each may hold twice slow_consumer.max_lag_bytes"
            );
        }
    }

    /// The warnings about sizes that do not fit.
    pub(super) fn warnings(self, config: &Config, memory: Option<MemoryLimit>) -> Vec<Warning> {
        const WORKERS: &str = "server.workers";
        const LAG: &str = "slow_consumer.max_lag_bytes";
        const BUFFERED: &str = "limits.max_buffered_bytes";
        let mut warnings = Vec::new();
        let held = self.most_held(config);
        let workers_hold_most = held > self.max_buffered_bytes as u64;
        let keys = if workers_hold_most {
            [WORKERS, LAG, BUFFERED]
        } else {
            [BUFFERED, WORKERS, LAG]
        };
        if workers_hold_most {
            let problem = format!(
                "{} workers may hold {} together, more than {BUFFERED} ({}), because each may hold twice {LAG} ({}); lower \
                 {WORKERS} or {LAG}",
                self.workers,
                HumanSize(held),
                HumanSize(self.max_buffered_bytes as u64),
                HumanSize(config.least_bytes_per_shard() as u64),
            );
            warnings.push(Warning::about(keys, problem));
        }
        let needed = held + u64::from(self.workers) * BYTES_PER_WORKER;
        if let Some(memory) = memory.filter(|memory| needed > memory.bytes) {
            let problem = format!(
                "slow clients may need {}, but there are {memory}, and the system would then kill the relay; lower {BUFFERED} \
                 (0 derives it), {WORKERS} or {LAG}",
                HumanSize(needed),
            );
            warnings.push(Warning::about(keys, problem));
        }
        warnings
    }

    /// The most bytes that all workers may hold together.
    fn most_held(self, config: &Config) -> u64 {
        let least = u64::from(self.workers) * config.least_bytes_per_shard() as u64;
        least.max(self.max_buffered_bytes as u64)
    }
}

/// Half of the memory, in whole steps, and at most [`Limits::MOST_DERIVED_BYTES`].
fn half(memory: MemoryLimit) -> usize {
    let half = memory.bytes / 2;
    let whole = half - half % STEP;
    // A limit of less than two steps is no place for a relay. It still starts, and says so.
    let derived = if whole == 0 { half } else { whole };
    derived.clamp(1, Limits::MOST_DERIVED_BYTES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const MIB: u64 = 1 << 20;

    const V1: &str = "8:cpu,cpuacct:/\n4:memory:/a/b\n0::/\n";
    const V1_MOUNTS: &str = "22 20 0:20 / /sys/fs/cgroup ro,nosuid shared:5 - tmpfs tmpfs ro,mode=755\n\
        23 22 0:21 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct\n\
        24 22 0:22 / /sys/fs/cgroup/memory rw,nosuid shared:7 - cgroup cgroup rw,memory\n\
        25 22 0:23 / /sys/fs/cgroup/unified rw shared:8 - cgroup2 cgroup2 rw\n";
    const V2: &str = "0::/a/b\n";
    const V2_MOUNTS: &str =
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    /// The number that version 1 shows if there is no limit.
    const UNLIMITED: &str = "9223372036854771712";

    /// A system of 8 GiB with these files.
    fn system(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let machine = [(
            "proc/meminfo",
            "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
        )];
        for (path, text) in machine.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> (u64, Bound) {
        let limit = MemoryLimit::find(system(files).path()).unwrap();
        (limit.bytes / MIB, limit.bound)
    }

    #[test]
    fn without_control_groups_the_machine_is_the_limit() {
        assert_eq!(found(&[]), (8192, Bound::Machine));
        assert_eq!(found(&[("proc/self/cgroup", V2)]), (8192, Bound::Machine));
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(MemoryLimit::find(empty.path()), None);
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts_in_both_versions() {
        for (group, mounts, folder, file, unlimited) in [
            (
                V1,
                V1_MOUNTS,
                "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                UNLIMITED,
            ),
            (V2, V2_MOUNTS, "sys/fs/cgroup", "memory.max", "max"),
        ] {
            for (limits, expected) in [
                ([unlimited, unlimited, unlimited], (8192, Bound::Machine)),
                (
                    [unlimited, unlimited, "100663296\n"],
                    (96, Bound::ControlGroup),
                ),
                (
                    [unlimited, "67108864\n", "100663296\n"],
                    (64, Bound::ControlGroup),
                ),
                (
                    ["33554432\n", "67108864", unlimited],
                    (32, Bound::ControlGroup),
                ),
            ] {
                let paths = ["", "/a", "/a/b"].map(|path| format!("{folder}{path}/{file}"));
                let files = [
                    ("proc/self/cgroup", group),
                    ("proc/self/mountinfo", mounts),
                    (&paths[0], limits[0]),
                    (&paths[1], limits[1]),
                    (&paths[2], limits[2]),
                ];
                assert_eq!(found(&files), expected, "for {file}: {limits:?}");
            }
        }
    }

    #[test]
    fn the_limit_that_slows_a_group_down_counts_as_well() {
        let files = [
            ("proc/self/cgroup", V2),
            ("proc/self/mountinfo", V2_MOUNTS),
            ("sys/fs/cgroup/a/memory.high", "50331648\n"),
            ("sys/fs/cgroup/a/memory.max", "100663296\n"),
        ];
        assert_eq!(found(&files), (48, Bound::ControlGroup));
    }

    #[test]
    fn a_container_that_sees_only_its_own_group_finds_its_limit() {
        // The process knows the group by the machine's name for it, with or without a mount that says so.
        for root in ["/docker/4711", "/"] {
            let mounts = format!(
                "22 20 0:20 / /proc rw\n24 22 0:22 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
            );
            let files = [
                ("proc/self/cgroup", "4:memory:/docker/4711\n"),
                ("proc/self/mountinfo", &mounts),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "100663296\n"),
            ];
            assert_eq!(found(&files), (96, Bound::ControlGroup), "for {root}");
        }
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2_MOUNTS),
            ("sys/fs/cgroup/memory.max", "100663296\n"),
        ];
        assert_eq!(found(&files), (96, Bound::ControlGroup));
    }

    fn limit(mebibytes: u64) -> MemoryLimit {
        MemoryLimit {
            bytes: mebibytes * MIB,
            bound: Bound::ControlGroup,
        }
    }

    /// The number of workers and the mebibytes.
    fn derived(
        change: impl FnOnce(&mut Config),
        cores: usize,
        memory: Option<MemoryLimit>,
    ) -> (u16, u64) {
        let mut config = Config::default();
        change(&mut config);
        let sizes = Sizes::derive(&config, cores, memory);
        (sizes.workers, sizes.max_buffered_bytes as u64 / MIB)
    }

    #[test]
    fn half_of_the_memory_may_wait_and_at_most_a_gibibyte() {
        for (memory, expected) in [
            (96, 48),
            (97, 48),
            (2048, 1024),
            (2047, 1023),
            (65_536, 1024),
        ] {
            assert_eq!(
                derived(|_| {}, 1, Some(limit(memory))),
                (1, expected),
                "for {memory}"
            );
        }
        assert_eq!(derived(|_| {}, 1, None), (1, 1024));
    }

    #[test]
    fn there_are_only_as_many_derived_workers_as_memory_suffices_for() {
        assert_eq!(derived(|_| {}, 8, Some(limit(96))), (6, 48));
        assert_eq!(derived(|_| {}, 4, Some(limit(96))), (4, 48));
        assert_eq!(derived(|_| {}, 8, Some(limit(1))), (1, 0));
        let explicit = |config: &mut Config| config.limits.max_buffered_bytes = 16 << 20;
        assert_eq!(derived(explicit, 8, None), (2, 16));
        let large = |config: &mut Config| config.slow_consumer.max_lag_bytes = 1 << 30;
        assert_eq!(derived(large, 8, None), (1, 1024));
        assert_eq!(derived(|_| {}, 1000, None), (128, 1024));
    }

    #[test]
    fn a_machine_with_many_cores_has_no_more_workers_than_may_be_configured() {
        let ample = |config: &mut Config| config.limits.max_buffered_bytes = 64 << 30;
        assert_eq!(derived(ample, 4, None).0, 4);
        assert_eq!(derived(ample, 1000, None).0, 256);
    }

    #[test]
    fn configured_sizes_are_kept() {
        let explicit = |config: &mut Config| {
            config.server.workers = 8;
            config.limits.max_buffered_bytes = 1 << 30;
        };
        assert_eq!(derived(explicit, 2, Some(limit(16))), (8, 1024));
    }

    #[test]
    fn a_limit_names_its_cause() {
        assert_eq!(limit(96).to_string(), "96 MiB (control group)");
    }
}
