//! The rig of the end-to-end tests: the real binary, brokers that are killed and started again, and a
//! checker of what they promise. What a test shares with a program under `src/bin` stands here, too.
//!
//! What goes wrong in a rig ends the test: its functions panic and say what they were doing.
//!
//! Variables that the end-to-end tests look at:
//!
//! | variable | meaning |
//! |---|---|
//! | `FLOWSTONE_BIN` | another binary to try than the one that is built from here |
//! | `FLOWSTONE_KILL_CYCLES` | how often the broker is killed under load; 20 unless told |
//! | `FLOWSTONE_SEED` | the seed of all random choices, as a failed test has printed it |
//! | `FLOWSTONE_SHARED` | an access log; `../shared/data/access.log` beside the repository unless told, and a made-up one where there is none |
//! | `FLOWSTONE_PYTHON` | a Python interpreter with grpcio, grpcio-reflection and protobuf; without it the Python test is skipped |

mod access_log;
mod binary;
mod broker;
mod dice;
pub mod group_chaos;
pub mod history;
mod invocation;
pub mod kill;
pub mod mounts;
mod process;
mod proxy;
mod raw;
pub mod recorder;
pub mod server;
mod stub;
pub mod work;

pub use access_log::{access_log, time_ms};
pub use binary::{binary, workspace_root};
pub use broker::{Broker, Stopped};
pub use dice::Dice;
pub use history::History;
pub use invocation::{Invocation, Run, flowstone};
pub use process::{Capture, Process};
pub use proxy::Proxy;
pub use raw::raw_call;
pub use server::Server;
pub use stub::Stub;
