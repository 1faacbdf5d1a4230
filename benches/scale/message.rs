//! One message from its number: headers as servers write them, text, now and then a quotation, markup, a document.

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::words::{Dice, Vocabulary};

/// When the first message came, seconds since 1970; the next ones follow.
const FIRST_SECOND: i64 = 1_690_000_000;
/// All messages lie within so many seconds.
const SPAN_SECONDS: u64 = 100_000_000;
const CORRESPONDENTS: u64 = 600;
const DOCUMENTS: u64 = 300;
/// So many messages in a row are one message to so many people, where they are.
const RECIPIENTS: u64 = 4;
/// How many messages are such, of a hundred.
const SHARED_PERCENT: u64 = 70;

/// Makes messages; the same seed and number make the same message.
pub struct Writer {
    seed: u64,
    vocabulary: Vocabulary,
    people: Vec<(String, String)>,
    /// Messages there are in all, over which the time is spread.
    count: u64,
}

/// A message and what its file is called.
pub struct Message {
    pub bytes: Vec<u8>,
    /// Delivery, seconds since 1970.
    pub second: i64,
    /// The base name, without flags.
    pub name: String,
}

impl Writer {
    pub fn new(seed: u64, count: u64) -> Writer {
        let vocabulary = Vocabulary::new(seed);
        let mut dice = Dice::new(seed, 0x7065_6f70_6c65);
        let people = (0..CORRESPONDENTS)
            .map(|number| {
                let (first, last) =
                    (vocabulary.title(&mut dice, 1), vocabulary.word(&mut Dice::new(seed, number * 7 + 3)));
                let domain = dice.skewed(90);
                let address = format!("{}.{last}{number}@mail{domain}.example.net", first.to_lowercase());
                (format!("{first} {last}"), address)
            })
            .collect();
        Writer { seed, vocabulary, people, count }
    }

    /// Those beyond the last came with it.
    fn second(&self, number: u64) -> i64 {
        let at =
            u128::from(number.min(self.count)) * u128::from(SPAN_SECONDS) / u128::from(self.count.max(1));
        FIRST_SECOND + at as i64
    }

    fn date(&self, second: i64) -> String {
        Timestamp::from_second(second)
            .ok()
            .and_then(|stamp| rfc2822::DateTimePrinter::new().timestamp_to_string(&stamp).ok())
            .unwrap_or_default()
    }

    fn id(&self, number: u64) -> String {
        let mut dice = Dice::new(self.seed ^ 0x6964, number);
        format!("{:016x}.{number}@mail{}.example.net", dice.next(), dice.skewed(90))
    }

    /// The message that this one is a copy of: mail goes to several people, of whom some are on this server.
    fn origin(&self, number: u64) -> u64 {
        let first = number - number % RECIPIENTS;
        let is_shared = Dice::new(self.seed ^ 0x7368_6172, first).percent(SHARED_PERCENT);
        if is_shared { first } else { number }
    }

    fn said(&self, origin: u64) -> Dice {
        Dice::new(self.seed ^ 0x7465_7874, origin)
    }

    /// Makes the message that `user` gets.
    pub fn message(&self, number: u64, user: &str) -> Message {
        let origin = self.origin(number);
        let (mut own, mut dice) = (Dice::new(self.seed ^ 0x7472_6163, number), Dice::new(self.seed, origin));
        let (second, sent) = (self.second(number), self.second(origin) - 7);
        let (name, address) = &self.people[dice.skewed(CORRESPONDENTS) as usize];
        let mut out = String::with_capacity(4_096);
        self.trace(&mut own, (user, address, second), &mut out);
        let is_reply = number > 1_000 && dice.percent(38);
        let earlier = origin.saturating_sub(1 + dice.skewed(1_000_000.min(origin.max(1))));
        let subject_words = dice.below(6) + 2;
        let subject = self.vocabulary.title(&mut dice, subject_words);
        let to = if origin == number { user } else { "staff" };
        out.push_str(&format!("From: {name} <{address}>\nTo: {to}@example.org"));
        for _ in 0..dice.skewed(8) {
            let (name, address) = &self.people[dice.skewed(CORRESPONDENTS) as usize];
            out.push_str(&format!(",\n\t{name} <{address}>"));
        }
        out.push_str(&format!(
            "\nSubject: {}{subject}\nDate: {}\nMessage-ID: <{}>\n",
            if is_reply { "Re: " } else { "" },
            self.date(sent),
            self.id(origin)
        ));
        if is_reply {
            out.push_str(&format!("In-Reply-To: <{0}>\nReferences: <{0}>\n", self.id(earlier)));
        }
        out.push_str("MIME-Version: 1.0\n");
        let mut text = String::with_capacity(4_096);
        let length = 120 + dice.skewed(3_800) + dice.below(650);
        self.vocabulary.text(&mut self.said(origin), length as usize, "", &mut text);
        if is_reply {
            text.push_str(&format!("On {}, somebody wrote:\n", self.date(self.second(earlier))));
            let quoted = 300 + dice.below(700);
            self.vocabulary.text(&mut self.said(self.origin(earlier)), quoted as usize, "> ", &mut text);
        }
        text.push_str(&format!("-- \n{name}\n{address}\n"));
        let bytes = self.dress(&mut dice, out, text);
        let name = self.file_name(&mut own, second, &bytes);
        Message { bytes, second, name }
    }

    fn file_name(&self, dice: &mut Dice, second: i64, bytes: &[u8]) -> String {
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let (micros, pid) = (dice.below(1_000_000), 300 + dice.below(30_000));
        format!("{second}.M{micros}P{pid}.mail,S={},W={}", bytes.len(), bytes.len() + lines)
    }

    /// What the servers on the way wrote on top.
    fn trace(&self, dice: &mut Dice, (user, from, second): (&str, &str, i64), out: &mut String) {
        let (mx, host) = (dice.below(3) + 1, from.split('@').nth(1).unwrap_or_default());
        let date = self.date(second);
        out.push_str(&format!(
            "Return-Path: <{from}>\nDelivered-To: {user}@example.org\nReceived: from mx{mx}.example.org \
             ([192.0.2.{mx}])\n\tby mail.example.org with LMTP\n\tid {}\n\t(envelope-from <{from}>)\n\tfor \
             <{user}@example.org>; {date}\nReceived: from {host} ({host} [203.0.113.{}])\n\tby \
             mx{mx}.example.org (Postfix) with ESMTPS id {:011X}\n\tfor <{user}@example.org>; {date}\n",
            base64(&dice.bytes(9)),
            dice.below(250),
            dice.below(1 << 44)
        ));
        if dice.percent(12) {
            out.push_str(&format!(
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={host};\n\ts=m1; t={second}; \
                 bh={};\n\th=From:To:Subject:Date:Message-ID;\n\tb={}\n",
                base64(&dice.bytes(32)),
                base64(&dice.bytes(128))
            ));
        }
        for hop in 0..dice.below(3) {
            out.push_str(&format!(
                "Received: from [10.{}.{}.{}] (unknown)\n\tby relay{hop}.{host} with ESMTPA id {:08x}; {}\n",
                dice.below(8),
                dice.below(200),
                dice.below(250),
                dice.below(1 << 32),
                self.date(second - 3 - hop as i64)
            ));
        }
        out.push_str(&format!(
            "X-Spam-Status: No, score=-{}.{} required=5.0 tests=BAYES_00,\n\tRCVD_IN_DNSWL_MED,SPF_PASS\n",
            dice.below(5),
            dice.below(10)
        ));
    }

    /// Plain, with markup beside it, or with a document behind it.
    fn dress(&self, dice: &mut Dice, mut out: String, text: String) -> Vec<u8> {
        let edge = format!("=_{:016x}", dice.next());
        let plain = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n";
        match dice.below(100) {
            0..=1 => {
                out.push_str(&format!(
                    "Content-Type: multipart/mixed; boundary=\"{edge}\"\n\n--{edge}\n{plain}{text}"
                ));
                let shared = dice.percent(50);
                let mut content = Dice::new(
                    self.seed ^ 0x646f_6373,
                    if shared { dice.skewed(DOCUMENTS) } else { dice.next() },
                );
                let kilobytes = 1 + content.skewed(24);
                let length = kilobytes * 1_024 + content.below(900);
                let bytes = content.bytes(length as usize);
                out.push_str(&format!(
                    "--{edge}\nContent-Type: application/pdf; name=\"{0}.pdf\"\nContent-Transfer-Encoding: \
                     base64\nContent-Disposition: attachment; filename=\"{0}.pdf\"\n\n",
                    self.vocabulary.word(&mut content)
                ));
                for line in base64(&bytes).as_bytes().chunks(76) {
                    out.push_str(&String::from_utf8_lossy(line));
                    out.push('\n');
                }
                out.push_str(&format!("--{edge}--\n"));
            }
            2..=17 => {
                out.push_str(&format!(
                    "Content-Type: multipart/alternative; boundary=\"{edge}\"\n\n--{edge}\n{plain}{text}--{edge}\n\
                     Content-Type: text/html; charset=utf-8\n\n<html><body style=\"font-family: sans-serif\">\n"
                ));
                for line in text.lines() {
                    out.push_str(&format!("<p>{line}</p>\n"));
                }
                out.push_str(&format!("</body></html>\n--{edge}--\n"));
            }
            _ => out.push_str(&format!("{plain}{text}")),
        }
        out.into_bytes()
    }
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}
