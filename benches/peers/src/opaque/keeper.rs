//! How the raw server keeps messages: as they came, one file for each stream. What this costs, every log has to
//! pay that takes messages as tonic brings them.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use bytes::Bytes;
use tokio::sync::oneshot;

/// Where messages go, and when they count as kept.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    synced: bool,
    streams: Arc<AtomicU64>,
}

/// The file of one stream.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Written by a thread of its own and synced by another one, which nobody waits for.
    Written {
        messages: Sender<Message>,
        failure: Arc<OnceLock<io::Error>>,
    },
    /// Written and synced at once, on the thread that has read the message: nobody has to be woken.
    Synced(File),
}

/// A message, and who waits until it is written.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Bytes,
    written: oneshot::Sender<()>,
}

/// What became of a message when it was taken.
#[derive(Debug)]
enum Taken {
    /// It is kept, or cannot be.
    AtOnce(io::Result<()>),
    /// The thread that writes has it.
    Waits {
        written: oneshot::Receiver<()>,
        failure: Arc<OnceLock<io::Error>>,
    },
}

impl Keeper {
    /// Keeps messages in files in a directory that is there; `synced`: each is on disk when it counts as kept.
    pub(crate) fn new(dir: PathBuf, synced: bool) -> Self {
        Self {
            dir,
            synced,
            streams: Arc::default(),
        }
    }

    /// The file for a new stream.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(&self) -> io::Result<Kept> {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let file = File::create_new(self.dir.join(format!("kept-{number}")))?;
        if self.synced {
            return Ok(Kept::Synced(file));
        }
        let failure = Arc::new(OnceLock::new());
        let (messages, receiver) = channel();
        let (nudge, nudged) = sync_channel(1);
        let (synced, failed) = (file.try_clone()?, Arc::clone(&failure));
        thread::spawn(move || note(&failed, sync_all(&synced, &nudged)));
        let failed = Arc::clone(&failure);
        thread::spawn(move || note(&failed, write_all(file, &receiver, &nudge)));
        Ok(Kept::Written { messages, failure })
    }
}

impl Kept {
    /// Takes a message; what comes back ends once it is kept.
    pub(crate) fn keep(&mut self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + use<> {
        let taken = match self {
            Self::Synced(file) => {
                Taken::AtOnce(file.write_all(&bytes).and_then(|()| file.sync_data()))
            }
            Self::Written { messages, failure } => {
                let (sender, written) = oneshot::channel();
                let message = Message {
                    bytes,
                    written: sender,
                };
                // A thread that is gone is told by the other end, which goes with the message.
                let _ = messages.send(message);
                let failure = Arc::clone(failure);
                Taken::Waits { written, failure }
            }
        };
        async move {
            let (written, failure) = match taken {
                Taken::AtOnce(outcome) => return outcome,
                Taken::Waits { written, failure } => (written, failure),
            };
            written.await.map_err(|_| match failure.get() {
                Some(error) => io::Error::new(error.kind(), error.to_string()),
                None => io::Error::other("the thread that writes has ended"),
            })
        }
    }
}

fn note(failure: &OnceLock<io::Error>, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        // The first one counts.
        let _ = failure.set(error);
    }
}

/// Until the stream is over.
fn write_all(
    mut file: File,
    messages: &Receiver<Message>,
    nudge: &SyncSender<()>,
) -> io::Result<()> {
    for message in messages {
        file.write_all(&message.bytes)?;
        // A stream that is gone waits for nothing, and a nudge that waits already is for this, too.
        let _ = message.written.send(());
        let _ = nudge.try_send(());
    }
    Ok(())
}

/// Syncs again and again, as long as more is written meanwhile.
fn sync_all(file: &File, nudged: &Receiver<()>) -> io::Result<()> {
    nudged.iter().try_for_each(|()| file.sync_data())
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    fn kept_of(synced: bool) -> (Vec<u8>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = crate::runtime::new().unwrap();
        let mut kept = Keeper::new(dir.path().to_owned(), synced).open().unwrap();
        let messages = ["one", "two", "three"].map(|text| kept.keep(Bytes::from(text)));
        for outcome in runtime.block_on(join_all(messages)) {
            outcome.unwrap();
        }
        (std::fs::read(dir.path().join("kept-0")).unwrap(), dir)
    }

    #[test]
    fn what_counts_as_kept_is_in_the_file() {
        assert_eq!(kept_of(false).0, b"onetwothree");
        assert_eq!(kept_of(true).0, b"onetwothree");
    }

    #[test]
    fn each_stream_has_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(dir.path().to_owned(), true);
        let _both = (keeper.open().unwrap(), keeper.open().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let runtime = crate::runtime::new().unwrap();
        let outcome = runtime.block_on(Kept::Synced(full).keep(Bytes::from("text")));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
