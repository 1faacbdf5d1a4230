//! Single files for people: `INBOX/2026-03-12_140211_Subject.eml`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::mbox::{place, safe_name};
use super::sink::{DirSink, Meta};
use super::{FolderHead, LetterError, Outgoing, PutError, Sink, Writer};

/// Longest part of a file name that is the subject, bytes.
const SUBJECT_BYTES_MAX: usize = 120;

/// Writes `.eml` files.
pub struct EmlWriter<'t> {
    sink: DirSink<'t>,
    zone: TimeZone,
    folder: Vec<Vec<u8>>,
}

impl<'t> EmlWriter<'t> {
    /// Writes below a target; names carry the time of arrival in this zone.
    pub fn new(sink: DirSink<'t>, zone: TimeZone) -> EmlWriter<'t> {
        EmlWriter { sink, zone, folder: Vec::new() }
    }
}

fn file_name(arrived_s: i64, zone: &TimeZone, subject: &str) -> String {
    let at = Timestamp::from_second(arrived_s).unwrap_or(Timestamp::UNIX_EPOCH);
    let date = at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d_%H%M%S").to_string();
    let words: Vec<&str> = subject.split_whitespace().collect();
    match words.join(" ").as_str() {
        "" => date,
        subject => format!("{date}_{}", safe_name(subject, SUBJECT_BYTES_MAX)),
    }
}

impl Writer for EmlWriter<'_> {
    fn begin(&mut self, folder: &FolderHead<'_>) -> Result<(), PutError> {
        let (mut path, last) = place(folder.name);
        path.push(last.into_bytes());
        let mtime_s = crate::base::clock::now_seconds();
        let meta = Meta { mode: 0o700 | folder.mode & 0o770, owner: folder.owner, mtime_s, mtime_ns: 0 };
        self.sink.folder(&path, &meta)?;
        self.folder = path;
        Ok(())
    }

    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), LetterError> {
        let letter = message.letter;
        let name = file_name(letter.arrived_s, &self.zone, message.subject);
        let meta = Meta {
            mode: message.mode & 0o666,
            owner: message.owner,
            mtime_s: letter.arrived_s,
            mtime_ns: letter.arrived_ns,
        };
        for number in 1u32.. {
            let name = if number == 1 { format!("{name}.eml") } else { format!("{name}-{number}.eml") };
            if self.sink.file((&self.folder, name.as_bytes()), letter.size, &meta, message.read)? {
                break;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), PutError> {
        Ok(())
    }

    fn finish(&mut self, _: Option<&[u8]>) -> Result<(), PutError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_time_and_subject() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(
            file_name(1_773_320_531, &zone, " Vertrag: \n Entwurf/2 "),
            "2026-03-12_140211_Vertrag_ Entwurf_2"
        );
        assert_eq!(file_name(1_773_320_531, &TimeZone::UTC, ""), "2026-03-12_130211");
        assert!(file_name(i64::MIN, &zone, &"ä".repeat(500)).len() < 150);
    }
}
