//! Stores and disks that fail on purpose: the n-th call, once or from then on.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::disk::{Disk, RealDisk};
use super::{Folder, PackFile, Place, Storage, StoreError, Temporary};
use crate::base::clock::UnixNanos;
use crate::base::id::{HostId, ObjectHash};

/// A call of a store or a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`Storage::read`]
    Read,
    /// [`Storage::read_range`]
    ReadRange,
    /// [`Storage::list`]
    List,
    /// [`Storage::create`]
    Create,
    /// [`Storage::create_pack`]
    CreatePack,
    /// [`Storage::finish_pack`]
    FinishPack,
    /// [`Storage::begin_copy`]
    BeginCopy,
    /// [`Storage::finish_copy`]
    FinishCopy,
    /// [`Storage::barrier`]
    Barrier,
    /// [`Storage::remove`]
    Remove,
    /// [`Storage::replace`]
    Replace,
    /// [`Storage::set_aside`]
    SetAside,
    /// [`Storage::received`]
    Received,
    /// [`Storage::temporary`]
    Temporary,
    /// [`Storage::remove_temporary`]
    RemoveTemporary,
    /// [`Disk::create_file`]
    CreateFile,
    /// [`Disk::write`]
    Write,
    /// [`Disk::sync_file`] and [`Disk::sync_folder`]
    Sync,
    /// [`Disk::rename_new`] and [`Disk::rename_over`]
    Rename,
    /// [`Disk::make_folder`]
    MakeFolder,
    /// [`Disk::remove_file`]
    RemoveFile,
}

/// What befalls a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and an error says so.
    Error,
    /// A read gives less than it should and calls it all; a write stops in the middle with an error.
    Short,
    /// Nothing happens, and the error says that no space is left.
    Full,
    /// All is done, and the answer is an error: the acknowledgement was lost.
    LostAcknowledgement,
    /// This list and as many after it do not show the newest objects yet.
    StaleList {
        /// Lists that are stale.
        lists: u32,
        /// Objects that each of them lacks.
        newest: usize,
    },
}

impl Fault {
    /// Can it befall this call at all?
    fn befalls(self, method: Method) -> bool {
        use Method::{Barrier, Create, CreateFile, CreatePack, FinishPack, MakeFolder, Rename, Sync, Write};
        match self {
            Fault::Error => true,
            Fault::Short => matches!(method, Method::Read | Method::ReadRange | Write),
            Fault::Full => {
                matches!(method, Create | CreatePack | FinishPack | Method::Replace | CreateFile | Write)
                    || matches!(method, Sync | Rename | MakeFolder | Method::BeginCopy | Method::FinishCopy)
            }
            Fault::LostAcknowledgement => {
                matches!(method, Create | FinishPack | Barrier | CreateFile | Write | Sync | Rename)
                    || matches!(method, Method::Remove | Method::RemoveTemporary | Method::RemoveFile)
                    || matches!(method, Method::Replace | Method::SetAside | Method::FinishCopy)
                    || method == MakeFolder
            }
            Fault::StaleList { .. } => method == Method::List,
        }
    }

    fn error(self) -> io::Error {
        match self {
            Fault::Full => io::Error::new(io::ErrorKind::StorageFull, "no space left (on purpose)"),
            _ => io::Error::other("failed on purpose"),
        }
    }
}

/// When a fault comes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The fault.
    pub fault: Fault,
    /// Only calls of this method count; else all that the fault can befall.
    pub method: Option<Method>,
    /// How many of them go well before.
    pub spared: u64,
    /// Every call after that fails too.
    pub lasting: bool,
}

/// Counts calls and says which of them a fault befalls.
#[derive(Debug, Default)]
pub struct FaultSwitch {
    state: Mutex<SwitchState>,
}

#[derive(Debug, Default)]
struct SwitchState {
    plan: Option<Plan>,
    counted: u64,
    struck: Option<Method>,
    stale_lists: u32,
}

impl FaultSwitch {
    /// Begins to count.
    pub fn arm(&self, plan: Plan) {
        *self.lock() = SwitchState { plan: Some(plan), ..SwitchState::default() };
    }

    /// Lets everything through again, and gives the call that the fault befell first.
    pub fn disarm(&self) -> Option<Method> {
        std::mem::take(&mut *self.lock()).struck
    }

    /// Calls since it was armed that the fault could befall.
    pub fn counted(&self) -> u64 {
        self.lock().counted
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SwitchState> {
        self.state.lock().expect("no holder panics")
    }

    fn next(&self, method: Method) -> Option<Fault> {
        let state = &mut *self.lock();
        let plan = state.plan.filter(|plan| plan.fault.befalls(method))?;
        if plan.method.is_some_and(|only| only != method) {
            return None;
        }
        state.counted += 1;
        let begins = state.counted - 1 == plan.spared;
        let mut strikes = begins || plan.lasting && state.counted > plan.spared;
        if let Fault::StaleList { lists, .. } = plan.fault {
            if begins {
                state.stale_lists = lists.max(1);
            }
            strikes = state.stale_lists > 0;
            state.stale_lists = state.stale_lists.saturating_sub(1);
        }
        if strikes {
            state.struck.get_or_insert(method);
        }
        strikes.then_some(plan.fault)
    }

    /// Carries a change out as the plan says.
    fn change<T, E>(
        &self,
        method: Method,
        act: impl FnOnce() -> Result<T, E>,
        fail: impl FnOnce(io::Error) -> E,
    ) -> Result<T, E> {
        match self.next(method) {
            None => act(),
            Some(fault @ Fault::LostAcknowledgement) => act().and_then(|_| Err(fail(fault.error()))),
            Some(fault) => Err(fail(fault.error())),
        }
    }
}

/// A store whose calls fail as its switch says.
pub struct FaultyStore {
    inner: Arc<dyn Storage>,
    switch: Arc<FaultSwitch>,
}

impl FaultyStore {
    /// Stands before another store.
    pub fn new(inner: Arc<dyn Storage>, switch: Arc<FaultSwitch>) -> FaultyStore {
        FaultyStore { inner, switch }
    }

    fn change<T>(
        &self,
        method: Method,
        object: &dyn ToString,
        act: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.switch.change(method, act, |error| StoreError::new("fail", object.to_string(), error))
    }

    fn read_as(
        &self,
        method: Method,
        place: &Place,
        act: impl FnOnce() -> Result<Vec<u8>, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        match self.switch.next(method) {
            None => act(),
            Some(Fault::Short) => act().map(|mut bytes| {
                bytes.truncate(bytes.len() / 2);
                bytes
            }),
            Some(fault) => Err(StoreError::new("fail", place.to_string(), fault.error())),
        }
    }

    /// The names of the objects that the store received last.
    fn newest(&self, listed: &[(Place, u64)], count: usize) -> Result<HashSet<Place>, StoreError> {
        let times = listed.iter().map(|(place, _)| Ok((self.inner.received(place)?, *place)));
        let mut times: Vec<(UnixNanos, Place)> = times.collect::<Result<_, StoreError>>()?;
        times.sort();
        Ok(times.into_iter().rev().take(count).map(|(_, place)| place).collect())
    }
}

impl Storage for FaultyStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn read(&self, place: &Place, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        self.read_as(Method::Read, place, || self.inner.read(place, bytes_max))
    }

    fn read_range(&self, place: &Place, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        self.read_as(Method::ReadRange, place, || self.inner.read_range(place, offset, length))
    }

    fn list(&self, folder: Folder) -> Result<Vec<(Place, u64)>, StoreError> {
        match self.switch.next(Method::List) {
            None => self.inner.list(folder),
            Some(Fault::StaleList { newest, .. }) => {
                let mut listed = self.inner.list(folder)?;
                let missing = self.newest(&listed, newest)?;
                listed.retain(|(place, _)| !missing.contains(place));
                Ok(listed)
            }
            Some(fault) => Err(StoreError::new("fail", folder.name(), fault.error())),
        }
    }

    fn create(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.change(Method::Create, place, || self.inner.create(place, bytes))
    }

    fn create_pack(&self, host: &HostId) -> Result<PackFile, StoreError> {
        self.change(Method::CreatePack, &"a pack", || self.inner.create_pack(host))
    }

    fn finish_pack(&self, pack: PackFile) -> Result<(ObjectHash, u64), StoreError> {
        self.change(Method::FinishPack, &"a pack", || self.inner.finish_pack(pack))
    }

    fn begin_copy(&self, bytes: u64) -> Result<PackFile, StoreError> {
        self.change(Method::BeginCopy, &"a copy", || self.inner.begin_copy(bytes))
    }

    fn finish_copy(&self, copy: PackFile, place: &Place, received: UnixNanos) -> Result<(), StoreError> {
        self.change(Method::FinishCopy, place, || self.inner.finish_copy(copy, place, received))
    }

    fn barrier(&self) -> Result<(), StoreError> {
        self.change(Method::Barrier, &"the barrier", || self.inner.barrier())
    }

    fn remove(&self, place: &Place) -> Result<(), StoreError> {
        self.change(Method::Remove, place, || self.inner.remove(place))
    }

    fn replace(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.change(Method::Replace, place, || self.inner.replace(place, bytes))
    }

    fn set_aside(&self, place: &Place) -> Result<String, StoreError> {
        self.change(Method::SetAside, place, || self.inner.set_aside(place))
    }

    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }

    fn received(&self, place: &Place) -> Result<UnixNanos, StoreError> {
        self.change(Method::Received, place, || self.inner.received(place))
    }

    fn time(&self) -> UnixNanos {
        self.inner.time()
    }

    fn staleness(&self) -> Duration {
        self.inner.staleness()
    }

    fn temporary(&self) -> Result<Vec<Temporary>, StoreError> {
        self.change(Method::Temporary, &"tmp", || self.inner.temporary())
    }

    fn remove_temporary(&self, name: &str) -> Result<(), StoreError> {
        self.change(Method::RemoveTemporary, &name, || self.inner.remove_temporary(name))
    }
}

/// A real disk whose calls fail as its switch says.
#[derive(Debug)]
pub struct FaultyDisk {
    switch: Arc<FaultSwitch>,
}

impl FaultyDisk {
    /// Fails as `switch` says.
    pub fn new(switch: Arc<FaultSwitch>) -> FaultyDisk {
        FaultyDisk { switch }
    }

    fn change<T>(&self, method: Method, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.switch.change(method, act, |error| error)
    }
}

impl Disk for FaultyDisk {
    fn create_file(&self, path: &Path) -> io::Result<File> {
        self.change(Method::CreateFile, || RealDisk.create_file(path))
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let act = |bytes: &[u8]| RealDisk.write(file, path, bytes);
        match self.switch.next(Method::Write) {
            None => act(bytes),
            Some(fault @ Fault::LostAcknowledgement) => act(bytes).and(Err(fault.error())),
            // A disk that fills up or fails takes what it can.
            Some(fault) => act(&bytes[..bytes.len() / 2]).and(Err(fault.error())),
        }
    }

    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.change(Method::Sync, || RealDisk.sync_file(file, path))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Method::Rename, || RealDisk.rename_new(from, to))
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Method::Rename, || RealDisk.rename_over(from, to))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.change(Method::Sync, || RealDisk.sync_folder(path))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(Method::MakeFolder, || RealDisk.make_folder(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(Method::RemoveFile, || RealDisk.remove_file(path))
    }
}
