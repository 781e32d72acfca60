//! The simulated directory tree: what is seen, what is durable, and the changes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use super::inode::coin;
use crate::{DirEntry, Random};

pub(super) type InodeId = u64;
type DirId = u64;

const ROOT: DirId = 0;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(InodeId),
    Dir(DirId),
}

/// The entries of every directory. One that is no longer named has no table among the visible ones.
type Tables = BTreeMap<DirId, BTreeMap<String, Node>>;

/// An entry, by its directory and its name.
type Place = (DirId, String);

/// One step that a power cut keeps or loses whole: entries that get, or lose, what they stand for.
/// A rename is two at once.
#[derive(Clone, Debug)]
struct Change(Vec<(Place, Option<Node>)>);

#[derive(Clone, Debug)]
pub(super) struct Names {
    visible: Tables,
    durable: Tables,
    /// Oldest first.
    pending: Vec<Change>,
    next_dir: DirId,
}

/// An absolute place: the directories down to it, its own name, and what stands there.
struct Found {
    dirs: Vec<DirId>,
    name: String,
    node: Option<Node>,
}

impl Found {
    fn place(&self) -> Place {
        (
            *self.dirs.last().expect("every place lies in a directory"),
            self.name.clone(),
        )
    }
}

impl Names {
    pub(super) fn new() -> Self {
        let root = Tables::from([(ROOT, BTreeMap::new())]);
        Names {
            visible: root.clone(),
            durable: root,
            pending: Vec::new(),
            next_dir: ROOT + 1,
        }
    }

    /// The file of that name, `None` when the name is free.
    pub(super) fn file(&self, path: &Path) -> io::Result<Option<InodeId>> {
        match self.find(path)?.node {
            Some(Node::File(inode)) => Ok(Some(inode)),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Ok(None),
        }
    }

    /// Every file that has a name.
    pub(super) fn files(&self) -> impl Iterator<Item = InodeId> {
        files_in(&self.visible)
    }

    /// Every file that has, had or may get back a name.
    pub(super) fn files_ever(&self) -> BTreeSet<InodeId> {
        let pending = self.pending.iter().flat_map(|change| &change.0);
        let named = pending.filter_map(|(_, node)| match node {
            Some(Node::File(inode)) => Some(*inode),
            _ => None,
        });
        self.files()
            .chain(files_in(&self.durable))
            .chain(named)
            .collect()
    }

    pub(super) fn create_file(&mut self, path: &Path, inode: InodeId) -> io::Result<()> {
        let found = self.find(path)?;
        if found.node.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.change(Change(vec![(found.place(), Some(Node::File(inode)))]));
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut dir = ROOT;
        let names = components(path)?;
        for (at, name) in names.iter().enumerate() {
            dir = match self.visible[&dir].get(name) {
                Some(Node::Dir(next)) => *next,
                Some(Node::File(_)) if at + 1 == names.len() => {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => {
                    let new = self.next_dir;
                    self.next_dir += 1;
                    self.visible.insert(new, BTreeMap::new());
                    self.change(Change(vec![((dir, name.clone()), Some(Node::Dir(new)))]));
                    new
                }
            };
        }
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let found = self.find(path)?;
        match found.node {
            Some(Node::File(_)) => {}
            Some(Node::Dir(_)) => return Err(ErrorKind::IsADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        }
        self.change(Change(vec![(found.place(), None)]));
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let found = self.find(path)?;
        let Some(Node::Dir(dir)) = found.node else {
            return Err(if found.node.is_none() {
                ErrorKind::NotFound
            } else {
                ErrorKind::NotADirectory
            }
            .into());
        };
        self.empty(dir, &mut || true);
        self.change(Change(vec![(found.place(), None)]));
        self.visible.remove(&dir);
        Ok(())
    }

    /// A removal that was cut short: the directory is still there, and some of what it held.
    pub(super) fn remove_dir_some(&mut self, path: &Path, random: &dyn Random) {
        if let Ok(dir) = self.dir(path) {
            let mut going_on = true;
            self.empty(dir, &mut || {
                going_on &= !random.u64().is_multiple_of(4);
                going_on
            });
        }
    }

    /// Removes what a directory holds, as long as `goes` says so. True if all is gone.
    fn empty(&mut self, dir: DirId, goes: &mut impl FnMut() -> bool) -> bool {
        for (name, node) in self.visible[&dir].clone() {
            if let Node::Dir(inner) = node {
                if !self.empty(inner, goes) {
                    return false;
                }
                self.visible.remove(&inner);
            }
            if !goes() {
                // An emptied directory is still there.
                if let Node::Dir(inner) = node {
                    self.visible.insert(inner, BTreeMap::new());
                }
                return false;
            }
            self.change(Change(vec![((dir, name), None)]));
        }
        true
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        let node = from.node.ok_or(ErrorKind::NotFound)?;
        if to.node == Some(node) {
            return Ok(());
        }
        match (node, to.node) {
            (Node::Dir(dir), _) if to.dirs.contains(&dir) => {
                return Err(ErrorKind::InvalidInput.into());
            }
            // Linux looks at this first, whatever is moved.
            (_, Some(Node::Dir(replaced))) if from.dirs.contains(&replaced) => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            (Node::File(_), Some(Node::Dir(_))) => return Err(ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(ErrorKind::NotADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(replaced))) => {
                if !self.visible[&replaced].is_empty() {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                self.visible.remove(&replaced);
            }
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
        }
        self.change(Change(vec![(from.place(), None), (to.place(), Some(node))]));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let entries = self.visible[&self.dir(path)?].iter();
        Ok(entries
            .map(|(name, node)| DirEntry {
                name: name.clone(),
                is_dir: matches!(node, Node::Dir(_)),
            })
            .collect())
    }

    /// Fails unless something stands there.
    pub(super) fn check_exists(&self, path: &Path) -> io::Result<()> {
        if components(path)?.is_empty() || self.find(path)?.node.is_some() {
            Ok(())
        } else {
            Err(ErrorKind::NotFound.into())
        }
    }

    /// Makes the changes in one directory durable, with the older ones of the entries they touch
    /// elsewhere: a rename out of another directory takes the making of its old name along, which
    /// could come back otherwise.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let mut needed: BTreeSet<Place> = BTreeSet::new();
        let mut chosen = vec![false; self.pending.len()];
        for (at, Change(entries)) in self.pending.iter().enumerate().rev() {
            if entries
                .iter()
                .any(|(place, _)| place.0 == dir || needed.contains(place))
            {
                chosen[at] = true;
                needed.extend(entries.iter().map(|(place, _)| place.clone()));
            }
        }
        for (change, chosen) in std::mem::take(&mut self.pending).into_iter().zip(chosen) {
            if chosen {
                apply(&mut self.durable, &change)
            } else {
                self.pending.push(change)
            }
        }
        Ok(())
    }

    pub(super) fn sync_all(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// Keeps what is durable and any subset of the changes that are not.
    pub(super) fn power_cut(&mut self, random: &dyn Random) {
        for change in std::mem::take(&mut self.pending) {
            if coin(random) {
                apply(&mut self.durable, &change);
            }
        }
        let mut reached = Tables::new();
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            // A directory whose own name was kept may have kept none of its entries.
            let entries = self.durable.remove(&dir).unwrap_or_default();
            todo.extend(entries.values().filter_map(|node| match node {
                Node::Dir(inner) => Some(*inner),
                Node::File(_) => None,
            }));
            reached.insert(dir, entries);
        }
        self.durable = reached.clone();
        self.visible = reached;
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.visible, &change);
        self.pending.push(change);
    }

    fn dir(&self, path: &Path) -> io::Result<DirId> {
        let dirs = self.walk(&components(path)?)?;
        Ok(*dirs.last().expect("a walk begins at the root"))
    }

    fn find(&self, path: &Path) -> io::Result<Found> {
        let mut components = components(path)?;
        let name = components.pop().ok_or(ErrorKind::IsADirectory)?;
        let dirs = self.walk(&components)?;
        let node = dirs
            .last()
            .and_then(|dir| self.visible[dir].get(&name))
            .copied();
        Ok(Found { dirs, name, node })
    }

    /// The directories passed on the way, the root first.
    fn walk(&self, components: &[String]) -> io::Result<Vec<DirId>> {
        let mut dirs = vec![ROOT];
        for name in components {
            let dir = dirs.last().expect("a walk begins at the root");
            match self.visible[dir].get(name) {
                Some(Node::Dir(next)) => dirs.push(*next),
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => return Err(ErrorKind::NotFound.into()),
            }
        }
        Ok(dirs)
    }
}

fn apply(tables: &mut Tables, Change(entries): &Change) {
    for ((dir, name), node) in entries {
        let table = tables.entry(*dir).or_default();
        match node {
            Some(node) => table.insert(name.clone(), *node),
            None => table.remove(name),
        };
    }
}

fn files_in(tables: &Tables) -> impl Iterator<Item = InodeId> {
    tables
        .values()
        .flat_map(BTreeMap::values)
        .filter_map(|node| match node {
            Node::File(inode) => Some(*inode),
            Node::Dir(_) => None,
        })
}

/// The names along a path. There is one tree: relative paths begin at its root too.
fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(ErrorKind::InvalidInput)?.to_owned())
            }
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}
