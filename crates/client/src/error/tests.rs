//! What becomes of a status.

use std::collections::HashMap;

use tonic_types::ErrorDetails;

use super::*;

#[test]
fn details_tell_reason_facts_and_delay() {
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "OFFSET_TRIMMED",
        DOMAIN,
        HashMap::from([("log-start-offset".to_owned(), "7".to_owned())]),
    );
    details.set_retry_info(Some(Duration::from_millis(1500)));
    let status = Status::with_error_details(Code::OutOfRange, "gone", details);
    let error = Error::from_status(&status);
    assert_eq!(error.reason(), Some("OFFSET_TRIMMED"));
    assert_eq!(error.metadata()["log-start-offset"], "7");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    assert_eq!(error.to_string(), "gone");
}

#[test]
fn trailers_tell_the_same_where_there_are_no_details() {
    let mut status = Status::new(Code::ResourceExhausted, "full");
    for (name, value) in [
        ("flowstone-reason", "TOPIC_FULL"),
        ("flowstone-retry-ms", "250"),
        ("flowstone-limit", "9"),
        ("other", "ignored"),
    ] {
        status.metadata_mut().insert(name, value.parse().unwrap());
    }
    let error = Error::from_status(&status);
    assert!(error.is(reason::TOPIC_FULL));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
    assert_eq!(error.metadata().len(), 1);
    assert_eq!(error.metadata()["limit"], "9");
}

#[test]
fn details_of_another_domain_are_not_ours() {
    let details = ErrorDetails::with_error_info("NOPE", "proxy.example", HashMap::new());
    let status = Status::with_error_details(Code::Internal, "proxy", details);
    assert_eq!(Error::from_status(&status).reason(), None);
}

#[test]
fn only_what_the_rules_name_may_be_repeated_unchanged() {
    let all = (0..=16).map(Code::from_i32);
    for code in all {
        let bare = Error::local(code, None, "");
        let ours = Error::local(code, Some("SOMETHING"), "");
        let always = matches!(
            code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        );
        let unless_ours = matches!(code, Code::Unknown | Code::Internal | Code::Cancelled);
        assert_eq!(bare.is_retryable(), always || unless_ours, "{code:?}");
        assert_eq!(ours.is_retryable(), always, "{code:?}");
    }
}

#[test]
fn a_status_without_a_message_still_says_something() {
    let error = Error::from_status(&Status::new(Code::DataLoss, ""));
    assert!(!error.to_string().is_empty());
}
