//! The place that a configuration comes from.
//!
//! The program has one for its file, its environment and its flags. The control thread asks it at a reload.

use crate::config::{Config, ConfigError};

/// Reads a configuration again while the relay runs. The control thread calls it, so it must not block.
pub trait Source: Send {
    /// Reads and validates the whole configuration.
    ///
    /// # Errors
    /// It cannot be used. Nothing changes.
    fn read(&mut self) -> Result<Config, ConfigError>;

    /// Adds the place of the wrong value to an error that was found in the last configuration that was read.
    fn locate(&self, error: ConfigError) -> ConfigError {
        error
    }

    /// The relay has put this configuration in force. It is the last one that was read, but keys that need a restart have
    /// their old values.
    fn in_force(&mut self, config: &Config);
}
