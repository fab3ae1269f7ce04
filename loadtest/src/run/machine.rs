//! The machine under the generator, as a report names it.

use procfs::{CpuInfo, Current as _};

/// The name of the processor, or its architecture if the kernel does not say.
pub(super) fn processor() -> String {
    let info = CpuInfo::current().ok();
    let name = info.as_ref().and_then(|info| info.model_name(0));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// The name and release of the kernel.
pub(super) fn kernel() -> String {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    format!("{} {}", text(uname.sysname()), text(uname.release()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_name_and_its_kernel_a_release() {
        assert!(!processor().is_empty());
        let kernel = kernel();
        assert!(
            kernel.starts_with("Linux ") && kernel.len() > 8,
            "{kernel:?}"
        );
    }
}
