//! The file of a backup: a head, sealed chunks, a signed manifest.
//!
//! ```text
//! dekeys-backup/1\n
//! length (32 bits) and head, JSON: instance, time, migration, the keyring, the wrapped key of this file
//! for each chunk: length (32 bits), AES-256-GCM over at most 64 KiB; then the length 0
//! length (32 bits) and manifest: a statement signed by the log
//! ```
//!
//! The chunks hold zstd (RFC 8878) over lines of JSON: a table, then its rows, and at last how many rows there were. Numbers
//! are big-endian. Nothing in the head or manifest is secret; they show the instance, its size and its age.
//!
//! A reader is told of a cut, altered, doubled or moved part before it believes what it read: the last line, the last chunk
//! and the manifest's digest of everything before it must all be there.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};

use crate::audit::{LogKey, LogPublic, open_statement, state};
use crate::base::canonical::Digest;
use crate::base::id::{IncarnationId, InstanceId};
use crate::base::time::Timestamp;
use crate::model::instance::Mode;
use crate::store::backup::Dumped;
use crate::vault::Keyring;
use crate::vault::stream::{StreamKey, TAG};

/// What a backup begins with; the number is the format's.
const MAGIC: &[u8] = b"dekeys-backup/1\n";

/// What all formats begin with.
const FAMILY: &[u8] = b"dekeys-backup/";

/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 * 1024;

/// The longest head, manifest and line that are read.
const LONGEST_HEAD: u32 = 4 * 1024 * 1024;
const LONGEST_MANIFEST: u32 = 16 * 1024;
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// The type of the manifest's statement.
const MANIFEST: &str = "dekeys-backup+jws";

/// What the wrapped key is for.
pub const PURPOSE: &str = "backup";

/// A file that is no sound backup. Nothing was written anywhere.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read or written.
    #[error("the file cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("this is not a backup of dekeys")]
    NotABackup,
    /// Of a later dekeys.
    #[error("this backup has a format that this binary does not know; use the version that made it")]
    Newer,
    /// It ends too early.
    #[error("this backup is cut short: it ends after chunk {0}")]
    Cut(u32),
    /// A chunk does not open.
    #[error("chunk {0} of this backup does not open: it was altered, moved or doubled, or belongs to another backup")]
    Chunk(u32),
    /// What the chunks hold is no dump.
    #[error("this backup holds what dekeys did not write")]
    Content,
    /// The manifest is not the log's, or speaks of something else.
    #[error("the manifest of this backup does not fit it: {0}")]
    Manifest(&'static str),
    /// The key cannot be had.
    #[error("the unseal key does not open this backup")]
    Key,
    /// Who reads or writes is gone.
    #[error("the backup was given up")]
    GivenUp,
}

/// What stands before the chunks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The instance.
    pub instance: InstanceId,
    /// Test or live.
    pub mode: Mode,
    /// When it was begun.
    pub created: Timestamp,
    /// The state of the tables.
    pub migration: i64,
    /// How the unseal key leads to the root key. Holds no secret.
    pub keyring: Keyring,
    /// The key of this file under one derived from the root key, base64url.
    pub key: String,
}

/// What the log signs about a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The instance.
    pub instance: InstanceId,
    /// Its incarnation.
    pub incarnation: IncarnationId,
    /// When it was begun.
    pub created: Timestamp,
    /// The version of dekeys.
    pub version: String,
    /// The state of the tables.
    pub migration: i64,
    /// Events on record.
    pub events: i64,
    /// The digest of the last one on the chain, hexadecimal.
    pub head: String,
    /// The latest checkpoint, a signed note.
    pub checkpoint: Option<String>,
    /// Rows in it.
    pub rows: u64,
    /// The digest of everything before the manifest.
    pub content: Option<Digest>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    rows: u64,
}

/// Takes lines, packs and seals them.
pub struct Writer<W: Write> {
    lines: zstd::stream::write::Encoder<'static, Sealer<W>>,
    rows: u64,
}

/// Seals what it is given, chunk by chunk.
struct Sealer<W: Write> {
    out: Hashed<W>,
    key: StreamKey,
    head: Vec<u8>,
    number: u32,
    buffer: Vec<u8>,
}

/// Knows the digest of what went through.
struct Hashed<I> {
    inner: I,
    hasher: blake3::Hasher,
}

impl<I> Hashed<I> {
    fn new(inner: I) -> Self {
        Self {
            inner,
            hasher: blake3::Hasher::new(),
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(*self.hasher.finalize().as_bytes())
    }
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }

    /// Bytes with their length before them.
    fn put_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.inner.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes(bytes.try_into().unwrap_or_default()))
    }
}

impl<W: Write> Writer<W> {
    /// Writes the head. `key` is the one that `head.key` wraps.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn begin(out: W, head: &Head, key: StreamKey) -> Result<Self, ArchiveError> {
        let mut out = Hashed::new(out);
        let head = serde_json::to_vec(head).map_err(io::Error::other)?;
        out.put(MAGIC)?;
        out.put_part(&head)?;
        let sealer = Sealer {
            out,
            key,
            head,
            number: 0,
            buffer: Vec::with_capacity(CHUNK + TAG),
        };
        let lines = zstd::stream::write::Encoder::new(sealer, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        Ok(Self { lines, rows: 0 })
    }

    /// The next table or row.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn put(&mut self, dumped: &Dumped) -> Result<(), ArchiveError> {
        if matches!(dumped, Dumped::Row(_)) {
            self.rows = self.rows.saturating_add(1);
        }
        self.line(dumped)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), ArchiveError> {
        serde_json::to_writer(&mut self.lines, line).map_err(io::Error::other)?;
        Ok(self.lines.write_all(b"\n")?)
    }

    /// The last line and chunk, and the manifest, completed and signed. Gives back what was written to.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn finish(mut self, mut manifest: Manifest, log: &LogKey) -> Result<(W, Manifest), ArchiveError> {
        let rows = self.rows;
        self.line(&End { rows })?;
        let mut out = self.lines.finish()?.finish()?;
        manifest.rows = rows;
        manifest.content = Some(out.digest());
        let signed = state(log, MANIFEST, &manifest).ok_or(ArchiveError::Content)?;
        out.put_part(signed.as_bytes())?;
        Ok((out.inner, manifest))
    }
}

impl<W: Write> Sealer<W> {
    fn chunk(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.key.seal(&self.head, self.number, last, &mut self.buffer);
        sealed.map_err(io::Error::other)?;
        self.out.put_part(&self.buffer)?;
        self.buffer.clear();
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| io::Error::other("too large"))?;
        Ok(())
    }

    /// The last chunk, and the end of the chunks.
    fn finish(mut self) -> io::Result<Hashed<W>> {
        self.chunk(true)?;
        self.out.put(&0u32.to_be_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full buffer is sealed only when more follows: the last chunk is marked.
        if self.buffer.len() >= CHUNK {
            self.chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK.saturating_sub(self.buffer.len()));
        self.buffer.extend(bytes.iter().take(taken));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A backup whose head was read, and nothing believed yet.
pub struct Unopened<R> {
    input: Hashed<R>,
    head: Vec<u8>,
    /// The head, as it stands there.
    pub unverified: Head,
}

impl<R: Read> Unopened<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`ArchiveError::NotABackup`], [`ArchiveError::Newer`].
    pub fn read(input: R) -> Result<Self, ArchiveError> {
        let mut input = Hashed::new(input);
        let magic = input.take(MAGIC.len()).map_err(|_| ArchiveError::NotABackup)?;
        if !magic.starts_with(FAMILY) {
            return Err(ArchiveError::NotABackup);
        }
        if magic != MAGIC {
            return Err(ArchiveError::Newer);
        }
        let length = input.length().map_err(|_| ArchiveError::Cut(0))?;
        if length > LONGEST_HEAD {
            return Err(ArchiveError::NotABackup);
        }
        let length = usize::try_from(length).map_err(|_| ArchiveError::NotABackup)?;
        let head = input.take(length).map_err(|_| ArchiveError::Cut(0))?;
        let unverified = serde_json::from_slice(&head).map_err(|_| ArchiveError::NotABackup)?;
        Ok(Self {
            input,
            head,
            unverified,
        })
    }

    /// Begins to read what is in it, with the key that its head wraps.
    ///
    /// # Errors
    /// None: each part says whether it opens when it is read.
    pub fn open(self, key: StreamKey) -> Result<Reader<R>, ArchiveError> {
        let opener = Opener {
            input: self.input,
            key,
            head: self.head,
            number: 0,
            next: None,
            ended: false,
            buffer: Vec::new(),
            at: 0,
            trouble: None,
        };
        let packed = zstd::stream::read::Decoder::new(opener)?;
        Ok(Reader {
            lines: BufReader::with_capacity(CHUNK, packed),
            rows: 0,
        })
    }
}

/// Opens what it reads, chunk by chunk.
struct Opener<R> {
    input: Hashed<R>,
    key: StreamKey,
    head: Vec<u8>,
    number: u32,
    /// The length of the next chunk, read already.
    next: Option<u32>,
    ended: bool,
    buffer: Vec<u8>,
    at: usize,
    trouble: Option<ArchiveError>,
}

impl<R: Read> Opener<R> {
    fn chunk(&mut self) -> Result<(), ArchiveError> {
        let cut = ArchiveError::Cut;
        let length = match self.next.take() {
            Some(length) => length,
            None => self.input.length().map_err(|_| cut(self.number))?,
        };
        let length = usize::try_from(length).map_err(|_| ArchiveError::Chunk(self.number))?;
        if !(TAG..=CHUNK + TAG).contains(&length) {
            return Err(ArchiveError::Chunk(self.number));
        }
        self.buffer = self.input.take(length).map_err(|_| cut(self.number))?;
        let next = self.input.length().map_err(|_| cut(self.number))?;
        self.ended = next == 0;
        self.next = Some(next);
        let opened = self.key.open(&self.head, self.number, self.ended, &mut self.buffer);
        opened.map_err(|_| ArchiveError::Chunk(self.number))?;
        self.at = 0;
        self.number = self.number.checked_add(1).ok_or(ArchiveError::Content)?;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.buffer.len() {
            if self.ended {
                return Ok(0);
            }
            if let Err(error) = self.chunk() {
                let words = io::Error::other(error.to_string());
                self.trouble = Some(error);
                return Err(words);
            }
        }
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(out.len());
        out.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.at = self.at.saturating_add(taken);
        Ok(taken)
    }
}

/// A backup that is being read.
pub struct Reader<R: Read> {
    lines: BufReader<zstd::stream::read::Decoder<'static, BufReader<Opener<R>>>>,
    rows: u64,
}

impl<R: Read> Reader<R> {
    /// The next table or row; `None` after the last one, once it is clear that it was the last.
    ///
    /// # Errors
    /// [`ArchiveError::Cut`], [`ArchiveError::Chunk`], [`ArchiveError::Content`].
    pub fn take(&mut self) -> Result<Option<Dumped>, ArchiveError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.lines).take(LONGEST_LINE);
        if let Err(error) = bounded.read_until(b'\n', &mut line) {
            return Err(self.trouble().unwrap_or(ArchiveError::Io(error)));
        }
        if line.pop() != Some(b'\n') {
            return Err(ArchiveError::Content);
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Dumped(dumped)) => {
                if matches!(dumped, Dumped::Row(_)) {
                    self.rows = self.rows.saturating_add(1);
                }
                Ok(Some(dumped))
            }
            Ok(Line::End(end)) if end.rows == self.rows => Ok(None),
            _ => Err(ArchiveError::Content),
        }
    }

    fn trouble(&mut self) -> Option<ArchiveError> {
        self.lines.get_mut().get_mut().get_mut().trouble.take()
    }

    /// After the last line: the end of the chunks and of the file. The manifest is still to be checked.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn finish(mut self) -> Result<Ended, ArchiveError> {
        let mut rest = Vec::new();
        let read = (&mut self.lines).take(1).read_to_end(&mut rest);
        if let Err(error) = read {
            return Err(self.trouble().unwrap_or(ArchiveError::Io(error)));
        }
        if !rest.is_empty() {
            return Err(ArchiveError::Content);
        }
        let mut opener = self.lines.into_inner().finish().into_inner();
        while !opener.ended {
            opener.chunk()?;
            if !opener.buffer.is_empty() {
                return Err(ArchiveError::Content);
            }
        }
        let content = opener.input.digest();
        let cut = |_| ArchiveError::Cut(opener.number);
        let length = opener.input.length().map_err(cut)?;
        if length > LONGEST_MANIFEST {
            return Err(ArchiveError::Manifest("it is too long"));
        }
        let length = usize::try_from(length).map_err(|_| ArchiveError::Content)?;
        let signed = opener.input.take(length).map_err(cut)?;
        let mut more = [0u8; 1];
        if opener.input.inner.read(&mut more)? != 0 {
            return Err(ArchiveError::Manifest("something follows it"));
        }
        let signed = String::from_utf8(signed).map_err(|_| ArchiveError::Manifest("it is no text"))?;
        Ok(Ended {
            content,
            rows: self.rows,
            unverified: signed,
        })
    }
}

/// A line of the dump.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Dumped(Dumped),
    End(End),
}

/// A backup that was read to its end.
pub struct Ended {
    content: Digest,
    rows: u64,
    unverified: String,
}

impl Ended {
    /// Rows that were read.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The manifest, if the log with one of these keys signed it about this very file.
    ///
    /// # Errors
    /// [`ArchiveError::Manifest`].
    pub fn manifest(&self, logs: &[&LogPublic]) -> Result<Manifest, ArchiveError> {
        let signed = |log: &&LogPublic| open_statement::<Manifest>(&self.unverified, MANIFEST, log).ok();
        let manifest = logs.iter().find_map(signed);
        let manifest = manifest.ok_or(ArchiveError::Manifest("it is not signed by the log of this instance"))?;
        if manifest.content != Some(self.content) || manifest.rows != self.rows {
            return Err(ArchiveError::Manifest("it was signed about another file"));
        }
        Ok(manifest)
    }
}
