//! The scenarios: their names, and what sets each apart. The command line offers them, and the plan is made from them.
//!
//! A new scenario begins here. The compiler then points at the other places that have to know it.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of load.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// `--publishers` send, `--subscribers` listen.
    #[default]
    Fanout,
    /// All `--subscribers` send and listen.
    Chat,
    /// Connections that send nothing, to see what one costs.
    Idle,
    /// A fan-out beside clients that come and go.
    Churn,
    /// A fan-out in which some subscribers stop reading for a while, again and again.
    Slow,
    /// Bursts with quiet between them, to see how long a burst takes until everybody has it.
    Burst,
    /// A fan-out in which all subscribers but one in each topic drop at once and return, in rounds.
    Reconnect,
    /// A fan-out in which each subscriber is cut at random, comes back and goes on where it was.
    Jitter,
    /// A fan-out at a moderate rate for a long time, to see whether memory or latency grows.
    Soak,
}

/// Options that only some scenarios have, by their names in `Options`.
pub(crate) const PARTICULAR: [&str; 20] = [
    "publishers",
    "size",
    "text",
    "binary",
    "active",
    "rate",
    "window",
    "churn_rate",
    "slow_share",
    "stall",
    "burst",
    "every",
    "resume",
    "cut_every",
    "away",
    "avalanche",
    "seed",
    "sse",
    "post",
    "pipeline",
];

/// The traits that set a scenario apart.
struct Traits {
    /// Whether anything is sent.
    sends: bool,
    /// Whether some connections only send: `--publishers`.
    has_publishers: bool,
    /// Whether messages are sent at a pace: `--rate` or `--window`.
    is_paced: bool,
    /// Whether it goes in rounds, which the control announces.
    has_rounds: bool,
    /// Whether some connections are not there all the time, so that the order has to be recorded.
    has_partial_members: bool,
    /// Options of its own, by their names in `Options`.
    options: &'static [&'static str],
}

/// The plain fan-out. Most other scenarios change one of its traits.
const FANOUT: Traits = Traits {
    sends: true,
    has_publishers: true,
    is_paced: true,
    has_rounds: false,
    has_partial_members: false,
    options: &[],
};

impl Scenario {
    /// The name as it is typed.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.expect("no value is hidden").get_name().to_owned()
    }

    fn traits(self) -> Traits {
        match self {
            Scenario::Fanout | Scenario::Soak => FANOUT,
            Scenario::Chat => Traits {
                has_publishers: false,
                ..FANOUT
            },
            Scenario::Idle => Traits {
                sends: false,
                has_publishers: false,
                is_paced: false,
                ..FANOUT
            },
            Scenario::Churn => Traits {
                has_partial_members: true,
                options: &["churn_rate"],
                ..FANOUT
            },
            Scenario::Slow => Traits {
                has_partial_members: true,
                options: &["slow_share", "stall"],
                ..FANOUT
            },
            Scenario::Burst => Traits {
                is_paced: false,
                has_rounds: true,
                options: &["burst", "every"],
                ..FANOUT
            },
            Scenario::Reconnect => Traits {
                has_rounds: true,
                has_partial_members: true,
                options: &["every", "resume"],
                ..FANOUT
            },
            Scenario::Jitter => Traits {
                has_partial_members: true,
                options: &["resume", "cut_every", "away", "avalanche", "seed"],
                ..FANOUT
            },
        }
    }

    /// Whether anything is sent.
    pub(crate) fn sends(self) -> bool {
        self.traits().sends
    }

    /// Whether some connections only send.
    pub(crate) fn has_publishers(self) -> bool {
        self.traits().has_publishers
    }

    /// Whether messages are sent at a pace.
    pub(crate) fn is_paced(self) -> bool {
        self.traits().is_paced
    }

    /// Whether it goes in rounds.
    pub(crate) fn has_rounds(self) -> bool {
        self.traits().has_rounds
    }

    /// Whether some connections are not there all the time.
    pub(crate) fn has_partial_members(self) -> bool {
        self.traits().has_partial_members
    }

    /// Whether an option means something in this scenario.
    pub(crate) fn has_option(self, id: &str) -> bool {
        let traits = self.traits();
        match id {
            "publishers" | "post" | "pipeline" => traits.has_publishers,
            "size" | "text" | "binary" | "active" => traits.sends,
            "rate" | "window" => traits.is_paced,
            // Those who read events cannot send.
            "sse" => traits.has_publishers || !traits.sends,
            _ => !PARTICULAR.contains(&id) || traits.options.contains(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_particular_option_belongs_to_a_scenario_and_no_other_is_particular() {
        let all = Scenario::value_variants();
        for id in PARTICULAR {
            assert!(all.iter().any(|scenario| scenario.has_option(id)), "{id}");
            assert!(all.iter().any(|scenario| !scenario.has_option(id)), "{id}");
        }
        let own = all.iter().flat_map(|scenario| scenario.traits().options);
        for id in own {
            assert!(PARTICULAR.contains(id), "{id}");
        }
    }
}
