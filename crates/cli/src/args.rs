//! The command line: what there is, what it is called, and the help. Each command's own flags
//! stand with the command.

use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::logging::LogFormat;
use crate::output::OutputFormat;
use crate::units::parse_duration;

/// How a flag without a value is read from its variable: empty, 0, no, off and false are off.
pub(crate) use clap::builder::FalseyValueParser as Switch;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const HELP: &str = "\
Examples:
  flowstone quickstart                        the whole story, in a few seconds
  flowstone serve                             a broker on 127.0.0.1:7420
  flowstone topic create visits -p 8
  echo 'two lemonades' | flowstone produce visits
  flowstone consume visits -e
  flowstone bench produce                     how fast it is here

Every flag can also be set by the variable that is named beside it.
Records go to standard output, everything else to standard error.

Exit codes: 0 all went well, 1 it did not, 2 wrong usage, 3 not found,
4 the broker is unavailable, 5 damaged data.";

/// A durable, append-only, partitioned log that anything with gRPC can write and replay.
#[derive(Debug, Parser)]
#[command(
    name = "flowstone",
    version,
    styles = STYLES,
    after_help = HELP,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Address of the broker
    #[arg(
        long,
        global = true,
        env = "FLOWSTONE_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7420",
        help_heading = "Global options"
    )]
    pub(crate) server: String,

    /// How answers are printed
    #[arg(
        long,
        global = true,
        env = "FLOWSTONE_OUTPUT",
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) output: OutputFormat,

    /// How long to keep trying while the broker does not answer, such as 30s or 5m
    ///
    /// Without it a first attempt that fails is told at once, and a connection that is lost later is
    /// tried again for 30 seconds.
    #[arg(
        long,
        global = true,
        env = "FLOWSTONE_RETRY_FOR",
        value_name = "DURATION",
        value_parser = parse_duration,
        help_heading = "Global options"
    )]
    pub(crate) retry_for: Option<Duration>,

    /// What is logged to standard error: error, warn, info, debug or trace, also by module
    ///
    /// `serve` logs info and the other commands warn unless told. By module as in
    /// `warn,flowstone_broker=debug`.
    #[arg(
        long,
        global = true,
        env = "FLOWSTONE_LOG",
        value_name = "LEVEL",
        help_heading = "Global options"
    )]
    pub(crate) log: Option<String>,

    /// How the log is written
    #[arg(
        long,
        global = true,
        env = "FLOWSTONE_LOG_FORMAT",
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) log_format: LogFormat,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(commands::serve::ServeArgs),
    #[command(subcommand)]
    Topic(commands::topic::TopicCommand),
    Produce(commands::produce::ProduceArgs),
    Consume(commands::consume::ConsumeArgs),
    Replay(commands::replay::ReplayArgs),
    #[command(subcommand)]
    Group(commands::group::GroupCommand),
    #[command(subcommand)]
    Log(commands::log::LogCommand),
    #[command(subcommand)]
    Bench(commands::bench::BenchCommand),
    Quickstart(commands::quickstart::QuickstartArgs),
    Config(commands::config::ConfigArgs),
    Completions(commands::completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    fn walk(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
        visit(command);
        for inner in command.get_subcommands() {
            walk(inner, visit);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        walk(&Cli::command(), &mut |command| {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long() else {
                    assert!(arg.is_positional(), "{} has no long name", arg.get_id());
                    continue;
                };
                if ["help", "version"].contains(&long) {
                    continue;
                }
                let variable = format!("FLOWSTONE_{}", long.replace('-', "_").to_uppercase());
                let env = arg.get_env().map(|env| env.to_string_lossy().into_owned());
                assert_eq!(env, Some(variable), "{} --{long}", command.get_name());
            }
        });
    }

    #[test]
    fn every_command_ends_its_help_with_examples() {
        walk(&Cli::command(), &mut |command| {
            let leaf = command.get_subcommands().next().is_none();
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                !leaf || help.is_some_and(|help| help.contains("Example")),
                "{} has no examples",
                command.get_name()
            );
        });
    }

    #[test]
    fn short_names_are_used_once_in_a_command() {
        walk(&Cli::command(), &mut |command| {
            let mut seen = BTreeSet::new();
            for short in command.get_arguments().filter_map(clap::Arg::get_short) {
                assert!(seen.insert(short), "{} -{short}", command.get_name());
            }
        });
    }

    #[test]
    fn examples_in_the_help_can_be_run() {
        let mut examples = 0;
        walk(&Cli::command(), &mut |command| {
            let help = command.get_after_help().map(ToString::to_string);
            for line in help.iter().flat_map(|help| help.lines()) {
                // The part of a pipeline that is ours, without the explanation behind it.
                let Some(at) = line.find("flowstone ") else {
                    continue;
                };
                let Some(words) = line.starts_with("  ").then(|| split(&line[at..])) else {
                    continue;
                };
                examples += 1;
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{words:?}: {error}");
                }
            }
        });
        assert!(examples > 20, "{examples} examples were found");
    }

    /// Splits a line as a shell does, as far as the examples need it; ends at two spaces, a pipe
    /// or a redirection.
    fn split(line: &str) -> Vec<String> {
        let line = line.split("  ").next().unwrap();
        let mut words = vec![String::new()];
        let mut quoted = false;
        for letter in line.chars() {
            match letter {
                '\'' => quoted = !quoted,
                '|' | '>' | '<' | '&' if !quoted => break,
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
