//! `flowstone group`: who reads, how far behind, and from where on.

mod args;
mod lag;
mod reset;
mod view;

use anyhow::Result;
use flowstone_client::Client;

use crate::args::Global;
use crate::confirm::{can_ask, confirmed};
use crate::connection::connect;
use crate::output::{OutputFormat, print_json};

pub(crate) use args::GroupCommand;
use args::{DeleteArgs, DescribeArgs, ListArgs};

pub(crate) async fn run(global: &Global, command: GroupCommand) -> Result<()> {
    let client = connect(global)?;
    match command {
        GroupCommand::List(ListArgs {}) => list(&client, global.output).await,
        GroupCommand::Describe(args) => describe(&client, global.output, &args).await,
        GroupCommand::Lag(args) => lag::run(global, &args).await,
        GroupCommand::ResetOffsets(args) => reset::run(&client, global.output, args).await,
        GroupCommand::Delete(args) => delete(&client, &args).await,
    }
}

async fn list(client: &Client, output: OutputFormat) -> Result<()> {
    let groups = client.list_groups().await?;
    match output {
        OutputFormat::Json => {
            print_json(&groups.iter().map(view::Summary::new).collect::<Vec<_>>())?;
        }
        OutputFormat::Table if groups.is_empty() => eprintln!("there are no groups"),
        OutputFormat::Table => view::list(&groups).print()?,
    }
    Ok(())
}

async fn describe(client: &Client, output: OutputFormat, args: &DescribeArgs) -> Result<()> {
    let group = client.get_group(&args.name).await?;
    match output {
        OutputFormat::Json => print_json(&view::Details::new(&group))?,
        OutputFormat::Table => view::print_details(&group)?,
    }
    Ok(())
}

async fn delete(client: &Client, args: &DeleteArgs) -> Result<()> {
    let name = &args.name;
    if !args.yes && can_ask() {
        // Asked before the question, so that nobody confirms what cannot be done.
        client.get_group(name).await?;
        if !confirmed(&format!(
            "Delete group {name} with all its committed offsets?"
        ))? {
            eprintln!("group {name} stays");
            return Ok(());
        }
    }
    client.delete_group(name).await?;
    eprintln!("deleted group {name}");
    Ok(())
}
