//! Several relays as one: the shard's engines.
//!
//! The turn has the host tell the engines what happened on their connections, and then calls [`Shard::hear_engines`]. The host
//! does what the engines want.

use std::time::Duration;

use super::Shard;
use crate::cluster::engine::Action;
use crate::relay::owner::cluster::Cluster;
use crate::time::Timestamp;

impl Shard {
    /// From now on engines number the messages of the topics that this shard owns. Called before the first turn.
    pub fn join_cluster(&mut self, cluster: Cluster) {
        self.owner.join_cluster(cluster);
    }

    /// Whether the shard has engines.
    pub(in crate::relay) fn is_clustered(&self) -> bool {
        self.owner.cluster().is_some()
    }

    /// The engines, if there are any.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.owner.cluster()
    }

    /// The same, for the host to tell them what happened.
    pub fn cluster_mut(&mut self) -> Option<&mut Cluster> {
        self.owner.cluster_mut()
    }

    /// Whether the host may read what subscriptions bring. If not, the engines' clocks for subscriptions stand still.
    pub fn takes_arrivals(&self) -> bool {
        let is_served = |cluster: &Cluster| cluster.is_served() && !self.memory.is_pressed();
        self.owner.cluster().is_none_or(is_served)
    }

    /// Does what is due in the engines, and takes what they have numbered.
    pub(in crate::relay) fn hear_engines(&mut self) {
        let now = self.now;
        if let Some(cluster) = self.owner.cluster_mut() {
            cluster.handle_timeouts(now);
        }
        self.hear_from_engines();
    }

    /// Takes what the engines' side says.
    pub(super) fn hear_from_engines(&mut self) {
        if !self.is_clustered() {
            return;
        }
        let (owner, mut desk) = self.owner_desk();
        owner.hear_engines(&mut desk);
        self.hear_itself();
        let bytes = self.owner.cluster().map_or(0, Cluster::pending_bytes);
        self.memory.note_engines(bytes);
    }

    /// The longest wait for engines in a drain.
    pub(super) fn time_for_engines(&self) -> Duration {
        let settings = self.owner.cluster().map(Cluster::settings);
        let outage = settings.map_or(Duration::ZERO, |settings| settings.outage_timeout);
        outage.min(self.settings.half_of_shutdown)
    }

    /// Takes what the host is to do for the engines.
    pub(in crate::relay) fn take_engine_actions(&mut self) -> Vec<(usize, Action)> {
        let cluster = self.owner.cluster_mut();
        cluster.map_or_else(Vec::new, Cluster::take_actions)
    }

    /// The next time at which an engine has something to do.
    pub(in crate::relay) fn next_of_engines(&self) -> Option<Timestamp> {
        self.owner.cluster()?.poll_timeout()
    }
}
