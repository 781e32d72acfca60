//! `flowstone topic`: create, list, describe, alter, delete and trim topics.

mod args;
mod view;

use anyhow::{Result, bail};
use flowstone_client::{Client, Topic};

use crate::args::Global;
use crate::confirm::{can_ask, confirmed};
use crate::connection::connect;
use crate::exit::Failure;
use crate::output::{OutputFormat, print_json};
use crate::units::show_many;

pub(crate) use args::{AcksArg, TopicCommand};
use args::{AlterArgs, CreateArgs, DeleteArgs, DescribeArgs, ListArgs, TrimArgs};

pub(crate) async fn run(global: &Global, command: TopicCommand) -> Result<()> {
    let client = connect(global)?;
    match command {
        TopicCommand::Create(args) => create(&client, global.output, args).await,
        TopicCommand::List(args) => list(&client, global.output, &args).await,
        TopicCommand::Describe(args) => describe(&client, global.output, &args).await,
        TopicCommand::Alter(args) => alter(&client, global.output, args).await,
        TopicCommand::Delete(args) => delete(&client, &args).await,
        TopicCommand::Trim(args) => trim(&client, &args).await,
    }
}

async fn create(client: &Client, output: OutputFormat, args: CreateArgs) -> Result<()> {
    let mut topic = Topic {
        name: args.name,
        partition_count: args.partitions,
        ..Topic::default()
    };
    args.settings.apply(&mut topic)?;
    let topic = client.create_topic(topic, false).await?;
    match output {
        OutputFormat::Json => print_json(&view::Settings::new(&topic))?,
        OutputFormat::Table => eprintln!(
            "created topic {} with {}",
            topic.name,
            show_many(topic.partition_count.unsigned_abs().into(), "partition")
        ),
    }
    Ok(())
}

async fn list(client: &Client, output: OutputFormat, args: &ListArgs) -> Result<()> {
    let topics = client.list_topics(&args.prefix).await?;
    match output {
        OutputFormat::Json => {
            print_json(&topics.iter().map(view::Settings::new).collect::<Vec<_>>())?;
        }
        OutputFormat::Table if topics.is_empty() => eprintln!("there are no topics"),
        OutputFormat::Table => view::list(&topics).print()?,
    }
    Ok(())
}

async fn describe(client: &Client, output: OutputFormat, args: &DescribeArgs) -> Result<()> {
    let (topic, partitions) = client.get_topic(&args.name).await?;
    match output {
        OutputFormat::Json => print_json(&view::Description::new(&topic, &partitions))?,
        OutputFormat::Table => view::print_description(&topic, &partitions)?,
    }
    Ok(())
}

async fn alter(client: &Client, output: OutputFormat, args: AlterArgs) -> Result<()> {
    let mut topic = Topic {
        name: args.name,
        ..Topic::default()
    };
    let mut paths = args.settings.apply(&mut topic)?;
    if let Some(partitions) = args.partitions {
        topic.partition_count = partitions;
        paths.push("partition_count");
    }
    if paths.is_empty() {
        bail!(Failure::Usage(
            "nothing to change: name at least one setting, as in --retention 7d".to_owned()
        ));
    }
    let topic = client.update_topic(topic, &paths).await?;
    match output {
        OutputFormat::Json => print_json(&view::Settings::new(&topic))?,
        OutputFormat::Table => eprintln!("changed topic {}", topic.name),
    }
    Ok(())
}

async fn delete(client: &Client, args: &DeleteArgs) -> Result<()> {
    let name = &args.name;
    if !args.yes && can_ask() {
        // Asked before the question, so that nobody confirms what cannot be done.
        client.get_topic(name).await?;
        if !confirmed(&format!("Delete topic {name} with all its records?"))? {
            eprintln!("topic {name} stays");
            return Ok(());
        }
    }
    client.delete_topic(name).await?;
    eprintln!("deleted topic {name}");
    Ok(())
}

async fn trim(client: &Client, args: &TrimArgs) -> Result<()> {
    let start = client
        .trim_partition(&args.name, args.partition, args.before)
        .await?;
    eprintln!(
        "partition {} of topic {} starts at offset {start}",
        args.partition, args.name
    );
    Ok(())
}
