//! The rig of the end-to-end tests: the real binary, brokers that are killed and started again, and a
//! checker of what they promise.
//!
//! What goes wrong in a rig ends the test: its functions panic and say what they were doing.

mod binary;
mod broker;
mod dice;
pub mod history;
mod invocation;
mod process;
mod proxy;
mod raw;
mod stub;

pub use binary::{binary, workspace_root};
pub use broker::{Broker, Stopped};
pub use dice::Dice;
pub use history::History;
pub use invocation::{Invocation, Run, flowstone};
pub use process::{Capture, Process};
pub use proxy::Proxy;
pub use raw::raw_call;
pub use stub::Stub;
