//! What failed, as an exit code and a message.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use flowstone_broker::OpenError;
use flowstone_client::{Code, Error as ClientError};
use flowstone_disk::is_out_of_open_files;
use flowstone_server::{ConfigError, StartError};

/// A failure that the command line itself found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The flags do not fit together, or do not fit the facts.
    #[error("{0}")]
    Usage(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// Data is damaged; the details were printed.
    #[error("{0}")]
    Damaged(String),
}

const OTHER: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const UNAVAILABLE: u8 = 4;
const DAMAGED: u8 = 5;

/// Prints the failure and answers with its exit code. A reader that went away is no failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", message(error));
    if let Some(hint) = error.chain().find_map(hint) {
        eprintln!("{hint}");
    }
    ExitCode::from(code(error))
}

/// The first cause that has a code of its own decides.
fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(OTHER)
}

fn code_of(error: &(dyn StdError + 'static)) -> Option<u8> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(match failure {
            Failure::Usage(_) => USAGE,
            Failure::NotFound(_) => NOT_FOUND,
            Failure::Damaged(_) => DAMAGED,
        });
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return Some(match error.code() {
            Code::NotFound => NOT_FOUND,
            Code::Unavailable | Code::DeadlineExceeded => UNAVAILABLE,
            Code::DataLoss => DAMAGED,
            // A bad name or address on the command line; bad records are no wrong usage.
            Code::InvalidArgument if error.reason().is_none_or(|why| why == "INVALID_FIELD") => {
                USAGE
            }
            _ => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<StartError>() {
        return match error {
            StartError::Open(error) => code_of(error),
            StartError::Config(_) => Some(USAGE),
            _ => None,
        };
    }
    if error.is::<ConfigError>() {
        return Some(USAGE);
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return match error {
            OpenError::IdentityMissing { .. }
            | OpenError::IdentityDamaged { .. }
            | OpenError::MetadataDamaged { .. }
            | OpenError::FloorDamaged { .. } => Some(DAMAGED),
            _ => None,
        };
    }
    let error = error.downcast_ref::<io::Error>()?;
    (error.kind() == io::ErrorKind::NotFound).then_some(NOT_FOUND)
}

fn hint(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return is_out_of_open_files(error).then(|| {
            "Raise the limit on open files: `ulimit -n`, or LimitNOFILE= of the service.".to_owned()
        });
    }
    let error = error.downcast_ref::<ClientError>()?;
    match (error.code(), error.reason()) {
        (Code::Unavailable, None) => Some(
            "Is `flowstone serve` running there? Name another address with --server or FLOWSTONE_SERVER."
                .to_owned(),
        ),
        (_, Some("TOPIC_NOT_FOUND")) => {
            Some("`flowstone topic list` shows the topics, `flowstone topic create` makes one.".to_owned())
        }
        (_, Some("GROUP_NOT_FOUND")) => {
            Some("`flowstone group list` shows the groups; one begins with its first commit.".to_owned())
        }
        (_, Some("GROUP_ACTIVE")) => {
            Some("`flowstone group describe` shows the members; a reset can end their sessions with --force."
                .to_owned())
        }
        _ => None,
    }
}

/// The whole chain on one line; a cause that the error above it has told already is left out.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.contains(&cause) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&cause);
    }
    message
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_cause_decides_whatever_is_said_above_it() {
        let failure = Failure::Damaged("3 places".to_owned());
        assert_eq!(
            code(&anyhow::Error::new(failure).context("while verifying")),
            DAMAGED
        );
        let failure = Failure::Usage("no".to_owned());
        assert_eq!(code(&anyhow::Error::new(failure)), USAGE);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(
            code(&anyhow::Error::new(missing).context("cannot open x")),
            NOT_FOUND
        );
        assert_eq!(code(&anyhow!("anything else")), OTHER);
    }

    #[tokio::test]
    async fn a_broker_that_is_away_is_unavailable_and_a_bad_address_is_wrong_usage() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let client = flowstone_client::Client::connect(address).unwrap();
        let error = anyhow::Error::new(client.cluster().await.unwrap_err());
        assert_eq!(code(&error), UNAVAILABLE);
        assert!(error.chain().any(|cause| hint(cause).is_some()));
        let error = flowstone_client::Client::connect("ftp://x").unwrap_err();
        assert_eq!(code(&anyhow::Error::new(error)), USAGE);
    }

    #[test]
    fn a_damaged_directory_is_damage_and_a_locked_one_is_not() {
        let path = std::path::PathBuf::from("data");
        let damaged = OpenError::FloorDamaged {
            path: path.clone(),
            detail: "bad CRC".to_owned(),
        };
        assert_eq!(
            code(&anyhow::Error::new(StartError::Open(damaged))),
            DAMAGED
        );
        let locked = OpenError::DirectoryInUse { path };
        assert_eq!(code(&anyhow::Error::new(StartError::Open(locked))), OTHER);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&error.context("cannot write")));
        assert!(!is_broken_pipe(&anyhow!("else")));
    }

    #[test]
    fn a_message_tells_each_cause_once() {
        let error = anyhow!("inner").context("outer: inner").context("top");
        assert_eq!(message(&error), "top: outer: inner");
    }
}
