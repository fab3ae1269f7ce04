//! The program's configuration, read again on SIGHUP: the same file, variables and flags as at the start.
//!
//! `main` hands it to the relay, and the relay's control thread calls it.

use fanwire::config::{Config, ConfigError, Layers};
use fanwire::server::Source;

use crate::cli::{self, Args};
use crate::logging::LogKnobs;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rereading {
    args: Args,
    /// The places of the configuration in force.
    in_force: Layers,
    /// The places that were read last.
    read: Layers,
    log: LogKnobs,
}

impl Rereading {
    /// The configuration in force came from `layers`.
    pub(crate) fn new(args: Args, layers: Layers, log: LogKnobs) -> Self {
        Rereading {
            args,
            read: layers.clone(),
            in_force: layers,
            log,
        }
    }
}

impl Source for Rereading {
    fn read(&mut self) -> Result<Config, ConfigError> {
        self.read = cli::layers_again(&self.args, &self.in_force);
        self.read.load()
    }

    fn locate(&self, error: ConfigError) -> ConfigError {
        self.read.locate(error)
    }

    fn in_force(&mut self, config: &Config) {
        self.in_force = self.read.clone();
        self.log.set_level(config.log.level);
        self.log
            .set_last_wait(config.shutdown.time_for_last_lines());
    }
}
