//! The state machine of groups, by transcripts and by its rules.

mod rules;
mod transcript;
