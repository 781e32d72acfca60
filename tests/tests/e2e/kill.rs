//! kill -9 of the broker while producers and readers run, over and over: a short run of the kill rig.

use flowstone_tests::{Dice, kill};

/// How often the broker is killed.
fn cycles() -> u64 {
    match std::env::var("FLOWSTONE_KILL_CYCLES") {
        Ok(cycles) => cycles.parse().expect("FLOWSTONE_KILL_CYCLES is a number"),
        Err(_) => 20,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_survives_kill_9_once_and_in_its_place() {
    let report = kill::run(cycles(), Dice::from_env(), |_, _| {}).await;
    eprintln!("{report}");
}
