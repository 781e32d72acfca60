//! The broker as its callers see it: on a simulated machine, step by step, and on a real disk with
//! threads.

mod crash;
mod failure;
mod groups;
mod harness;
mod internal_logs;
mod opening;
mod produce;
mod retention;
mod subscribe;
mod threads;
mod topics;
