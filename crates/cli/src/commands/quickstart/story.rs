//! The story, step by step. Each step tells what happened once it has been checked.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flowstone_client::{Client, Cursor, Event, Record, Start, Topic, reason};
use tokio::sync::oneshot;

use super::broker::{Broker, Log};
use super::killing::{kill_once_acknowledged, write_until_killed};
use super::ledger::{Ledger, Read};
use super::prose::{tell, tell_step};
use super::reading::{keep, keep_all, member, read_to_the_end};
use super::visits;
use crate::commands::log::verify_quietly;
use crate::units::{show_count, show_many, show_time};

pub(super) const TOPIC: &str = "visits";
pub(super) const GROUP: &str = "accounts";
const PARTITIONS: i32 = 4;
/// The broker is killed long before the writer runs out of records.
const MORE_RECORDS: usize = 100_000;

pub(super) struct Story {
    data_dir: PathBuf,
    records: Vec<Record>,
    made_up: bool,
    broker: Option<Broker>,
    log: Log,
    step: u32,
    checked: Vec<String>,
}

impl Story {
    pub(super) fn new(data_dir: PathBuf, records: Vec<Record>, made_up: bool) -> Self {
        Self {
            data_dir,
            records,
            made_up,
            broker: None,
            log: Log::default(),
            step: 0,
            checked: Vec::new(),
        }
    }

    /// All of it. What is off is an error.
    pub(super) async fn tell(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut ledger = Ledger::default();
        tell(format_args!(
            "A log is killed in the middle of writing. What is left of it?\n"
        ))?;
        let client = self.start().await?;
        self.create_topic(&client).await?;
        self.produce(&client, &mut ledger).await?;
        let first_half = self.read_half(&client, &ledger).await?;
        self.kill_while_writing(&client, &mut ledger).await?;
        let client = self.restart().await?;
        self.read_on(&client, first_half).await?;
        let all = self.replay(&client, &ledger).await?;
        self.replay_from_a_time(&client, &all).await?;
        self.verify_files().await?;

        tell(format_args!("\nChecked:"))?;
        for what in &self.checked {
            tell(format_args!("  ✓ {what}"))?;
        }
        tell(format_args!(
            "All is as it should be. It took {:.1} s; nothing is left behind.",
            begun.elapsed().as_secs_f64()
        ))
    }

    /// Ends the broker if there is one, and answers with what it logged last.
    pub(super) async fn end(mut self) -> Vec<String> {
        if let Some(broker) = self.broker.take() {
            // One that has ended by itself is what the log is for.
            let _ = broker.kill().await;
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().cloned().collect()
    }

    async fn start(&mut self) -> Result<Client> {
        let broker = Broker::start(&self.data_dir, &self.log).await?;
        let client = Client::connect(&broker.address)?;
        let text = format!(
            "A broker starts in {}. It is process {} and listens on {}.",
            self.data_dir.display(),
            broker.pid,
            broker.address
        );
        self.broker = Some(broker);
        self.say(&text)?;
        Ok(client)
    }

    async fn create_topic(&mut self, client: &Client) -> Result<()> {
        let topic = Topic {
            name: TOPIC.to_owned(),
            partition_count: PARTITIONS,
            ..Topic::default()
        };
        client.create_topic(topic, false).await?;
        let keys = if self.made_up {
            " The key of a visit is its stand, so each stand's visits stay in order."
        } else {
            ""
        };
        self.say(&format!(
            "The topic {TOPIC} is created with {PARTITIONS} partitions.{keys}"
        ))
    }

    async fn produce(&mut self, client: &Client, ledger: &mut Ledger) -> Result<()> {
        let begun = Instant::now();
        let producer = client.producer(TOPIC).build().await?;
        let mut deliveries = Vec::with_capacity(self.records.len());
        for record in &self.records {
            deliveries.push(producer.send(record).await?);
        }
        producer.close().await?;
        let took = begun.elapsed();
        for (record, delivery) in self.records.iter().zip(deliveries) {
            ledger.acknowledge(record.clone(), delivery.await?)?;
        }
        self.say(&format!(
            "{} are produced. The broker acknowledges each once it is on disk: {} ms for all.",
            self.many(self.records.len()),
            took.as_millis()
        ))
    }

    async fn read_half(&mut self, client: &Client, ledger: &Ledger) -> Result<Read> {
        let half = ledger.acknowledged_count() / 2;
        let mut reader = member(client).open().await?;
        let mut read = Read::new();
        let mut cursors: BTreeMap<i32, Cursor> = BTreeMap::new();
        while read.len() < half {
            let event = reader.next().await.context("the reader's stream ended")??;
            let Event::Records(batch) = event else {
                continue;
            };
            let mut cursor = batch.cursor.clone();
            for record in batch.records.iter().take(half - read.len()) {
                cursor.offset = record.offset + 1;
                keep(&mut read, batch.partition(), &record)?;
            }
            cursors.insert(batch.partition(), cursor);
        }
        let committed = client.commit(cursors.into_values().collect()).await?;
        ensure!(committed.stale.is_empty(), "a commit was not stored");
        drop(reader);
        self.say(&format!(
            "A reader of the group {GROUP} reads half of them, {}. It commits how far it is, and \
             leaves.",
            show_count(half as u64)
        ))?;
        Ok(read)
    }

    async fn kill_while_writing(&mut self, client: &Client, ledger: &mut Ledger) -> Result<()> {
        // Small requests, and few of them at a time: there is always one in the middle.
        let producer = client
            .producer(TOPIC)
            .batch_bytes(4 << 10)
            .in_flight_bytes(64 << 10)
            .build()
            .await?;
        let broker = self.broker.take().context("the broker is gone")?;
        let pid = broker.pid;
        let more = self.more();
        let (probe, acknowledged) = oneshot::channel();
        let (tell_killed, killed) = oneshot::channel();
        let (written, probed) = tokio::join!(
            write_until_killed(&producer, &more, probe, killed),
            kill_once_acknowledged(broker, acknowledged, tell_killed)
        );
        let probed = probed?;
        // What has not left yet is not to leave any more.
        producer.abandon().await;
        let before = ledger.acknowledged_count();
        let mut open: u64 = 0;
        for (record, delivery) in written? {
            let outcome = match delivery {
                Some(delivery) => delivery.await,
                None => Ok(probed),
            };
            match outcome {
                Ok(at) => ledger.acknowledge(record, at)?,
                Err(error) if error.is(reason::OUTCOME_UNKNOWN) => {
                    ledger.leave_open(record);
                    open += 1;
                }
                // Surely not appended: reading it would be a mistake.
                Err(_) => {}
            }
        }
        let acknowledged = ledger.acknowledged_count() - before;
        self.say(&format!(
            "More come in. In the middle of it: kill -9 {pid}. By then {} more had been acknowledged; \
             {} got no answer, and may be there or not.",
            show_count(acknowledged as u64),
            show_count(open)
        ))
    }

    async fn restart(&mut self) -> Result<Client> {
        let begun = Instant::now();
        let broker = Broker::start(&self.data_dir, &self.log).await?;
        let client = Client::connect(&broker.address)?;
        let text = format!(
            "The broker starts again on the same directory, as process {}: ready after {} ms.",
            broker.pid,
            begun.elapsed().as_millis()
        );
        self.broker = Some(broker);
        self.say(&text)?;
        Ok(client)
    }

    async fn read_on(&mut self, client: &Client, first_half: Read) -> Result<()> {
        let ends = client.list_offsets(TOPIC, Start::Latest, &[], None).await?;
        let ends: HashMap<i32, i64> = ends
            .partitions
            .iter()
            .map(|at| (at.partition, at.offset))
            .collect();
        let total = usize::try_from(ends.values().sum::<i64>())?;
        let mut reader = member(client).open().await?;
        let mut read = first_half;
        let before = read.len();
        while read.len() < total {
            let event = reader.next().await.context("the reader's stream ended")??;
            if let Event::Records(batch) = event {
                let place = batch.partition();
                ensure!(
                    batch.cursor.offset <= ends.get(&place).copied().unwrap_or_default(),
                    "the reader got records beyond the end"
                );
                keep_all(&mut read, &batch)?;
            }
        }
        self.say(&format!(
            "The reader comes back, goes on where it committed, and reads the other {}. None comes \
             twice, none is left out.",
            show_count((total - before) as u64)
        ))
    }

    async fn replay(&mut self, client: &Client, ledger: &Ledger) -> Result<Read> {
        let all = read_to_the_end(client, Start::Earliest).await?;
        let late = ledger.check(&all)?;
        ledger.check_order()?;
        let acknowledged = ledger.acknowledged_count();
        self.checked.push(format!(
            "all {} acknowledged records are there: once, at the offsets that were told, bit for bit",
            show_count(acknowledged as u64)
        ));
        self.checked.push(format!(
            "of those that got no answer {} are there, once; nothing else is",
            show_count(late as u64)
        ));
        self.checked
            .push("offsets count up without a gap".to_owned());
        // It was checked when the reader came back: everything was read, and nothing twice.
        self.checked.push(format!(
            "the group {GROUP} went on exactly where it had committed"
        ));
        let mut busiest = String::new();
        if self.made_up {
            self.checked.push(
                "each stand's visits are in one partition, in the order in which they came"
                    .to_owned(),
            );
            busiest = busiest_stand(&all);
        }
        self.say(&format!(
            "A replay from the start reads all {}.{busiest}",
            show_count(all.len() as u64)
        ))?;
        Ok(all)
    }

    async fn replay_from_a_time(&mut self, client: &Client, all: &Read) -> Result<()> {
        let mut times: Vec<i64> = all.values().map(|record| record.timestamp_ms).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        let mut expected = Read::new();
        let mut begun = [false; PARTITIONS as usize];
        for (at, record) in all {
            let partition = usize::try_from(at.partition)?;
            let begun = begun.get_mut(partition).context("a partition too many")?;
            *begun |= record.timestamp_ms >= middle;
            if *begun {
                expected.insert(*at, record.clone());
            }
        }
        let read = read_to_the_end(client, Start::TimeMs(middle)).await?;
        ensure!(
            read == expected,
            "a replay from {} read other records than it should",
            show_time(middle)
        );
        self.checked
            .push("a replay from a time begins with the first record of that time".to_owned());
        self.say(&format!(
            "A replay from {} on reads {}.",
            show_time(middle),
            show_count(read.len() as u64)
        ))
    }

    async fn verify_files(&mut self) -> Result<()> {
        let broker = self.broker.take().context("the broker is gone")?;
        broker.kill().await?;
        let batches = verify_quietly(&self.data_dir)?;
        self.checked
            .push("every checksum in the files holds".to_owned());
        self.say(&format!(
            "The broker is killed once more, and its files are read without it: {}, all sound.",
            show_many(batches, "batch")
        ))
    }

    /// What is written while the broker is killed.
    fn more(&self) -> Vec<Record> {
        if self.made_up {
            return visits::more(&self.records, MORE_RECORDS);
        }
        let lines = self.records.iter().cycle();
        lines.take(MORE_RECORDS).cloned().collect()
    }

    fn many(&self, count: usize) -> String {
        show_many(count as u64, if self.made_up { "visit" } else { "line" })
    }

    /// Tells one step.
    fn say(&mut self, text: &str) -> Result<()> {
        self.step += 1;
        tell_step(self.step, text)
    }
}

fn busiest_stand(all: &Read) -> String {
    let mut visits: BTreeMap<&[u8], usize> = BTreeMap::new();
    for key in all.values().filter_map(|record| record.key.as_deref()) {
        *visits.entry(key).or_default() += 1;
    }
    let busiest = visits.into_iter().max_by_key(|(_, count)| *count);
    busiest.map_or_else(String::new, |(stand, count)| {
        format!(
            " The busiest stand was the {}, with {} visits.",
            String::from_utf8_lossy(stand),
            show_count(count as u64)
        )
    })
}
