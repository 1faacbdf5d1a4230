//! Text as people write it: a vocabulary with a heavy head, phrases that come back, and numbers.

/// A small generator of numbers; the same seed gives the same row.
pub struct Dice(u64);

impl Dice {
    /// Mixes what the row stands for into a seed.
    pub fn new(seed: u64, of: u64) -> Dice {
        let mut dice = Dice(seed ^ of.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.next();
        Dice(dice.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end.max(1))) >> 64) as u64
    }

    /// True in so many cases of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A number below `end`, small ones far more often: 1/rank, about.
    pub fn skewed(&mut self, end: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((end as f64 + 1.0).powf(unit) as u64).clamp(1, end) - 1
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

const COMMON: &str = "the to and of a in is you for that on it be this have with are we will not as at your or if \
    can from please by an would our but all has do me there was any they need know so more about which time what \
    just my one also get no out up been when should new like may let could like some other use work them than \
    only how now see into make here want over their thanks then after these call email message meeting was next \
    two first back today week think last sent good right send contact information before business company two \
    questions due number date contract market power energy gas deal price list attached file report change \
    changes system user data report order service office month agreement credit issue review plan group help \
    regards office phone team team project draft comments current available schedule monday tuesday wednesday \
    thursday friday morning afternoon tomorrow conference discuss discussion follow update received forward \
    original subject question version set point problem issue server network account customer support request \
    process management request provide management sure great best free click here online site link page web \
    offer money million year years day days people world life news state public government against court law \
    house president city school university program research development software release bug patch kernel build \
    test driver source code license linux install package error line function memory disk mail folder backup";

const STARTS: [&str; 24] = [
    "con", "pro", "re", "de", "in", "ex", "com", "per", "sub", "trans", "inter", "over", "un", "dis", "pre",
    "mar", "ca", "lo", "sta", "mi", "ter", "gra", "ver", "pla",
];
const MIDDLES: [&str; 20] = [
    "duc", "form", "mit", "ven", "spec", "ta", "li", "ri", "no", "gu", "ma", "cal", "ten", "si", "vo", "pre",
    "lan", "ster", "ber", "cu",
];
const ENDS: [&str; 24] = [
    "tion", "ment", "ing", "ed", "s", "er", "ly", "al", "ity", "ive", "ance", "able", "ton", "son", "ous",
    "ary", "ist", "ics", "ure", "age", "", "e", "or", "um",
];

/// Words by how often they come, and which words they like to be followed by.
pub struct Vocabulary {
    words: Vec<String>,
    seed: u64,
}

const WORDS: usize = 9_000;
/// How often a word is followed by one of its few favourites, of a hundred.
const HABIT: u64 = 90;
const FAVOURITES: u64 = 3;
/// How often a sentence is one of those that everybody uses, of a hundred.
const COMMONPLACE: u64 = 82;
const SENTENCES: u64 = 4_000;

impl Vocabulary {
    pub fn new(seed: u64) -> Vocabulary {
        let mut dice = Dice::new(seed, 0x0077_6f72_6473);
        let mut words: Vec<String> = COMMON.split_whitespace().map(str::to_owned).collect();
        while words.len() < WORDS {
            let middles = dice.below(3);
            let mut word = (*dice.of(&STARTS)).to_owned();
            (0..middles).for_each(|_| word.push_str(dice.of::<&str>(&MIDDLES)));
            word.push_str(dice.of::<&str>(&ENDS));
            words.push(word);
        }
        Vocabulary { words, seed }
    }

    /// A word of any frequency.
    pub fn word(&self, dice: &mut Dice) -> &str {
        &self.words[dice.skewed(WORDS as u64) as usize]
    }

    fn after(&self, word: usize, dice: &mut Dice) -> usize {
        if dice.percent(HABIT) {
            let which = dice.skewed(FAVOURITES);
            return Dice::new(self.seed, (word as u64) << 4 | which).skewed(WORDS as u64) as usize;
        }
        dice.skewed(WORDS as u64) as usize
    }

    /// A few words, the first with a capital.
    pub fn title(&self, dice: &mut Dice, words: u64) -> String {
        let mut out = String::new();
        self.phrase(dice, words, &mut out);
        out
    }

    fn phrase(&self, dice: &mut Dice, words: u64, out: &mut String) {
        let mut at = dice.skewed(WORDS as u64) as usize;
        for number in 0..words {
            let word = &self.words[at];
            if number == 0 {
                let (first, rest) = word.split_at(1);
                out.push_str(&first.to_uppercase());
                out.push_str(rest);
            } else {
                out.push(' ');
                out.push_str(word);
            }
            match dice.below(60) {
                0 => out.push_str(&format!(" {}", dice.below(2_000))),
                1..=3 if number + 1 < words => out.push(','),
                _ => {}
            }
            at = self.after(at, dice);
        }
    }

    /// Paragraphs of about `bytes` bytes in lines of at most 72, each begun with `quote`.
    pub fn text(&self, dice: &mut Dice, bytes: usize, quote: &str, out: &mut String) {
        let end = out.len() + bytes;
        while out.len() < end {
            let mut paragraph = String::new();
            for _ in 0..dice.below(5) + 1 {
                // People say much of what they say again and again.
                let mut said = match dice.percent(COMMONPLACE) {
                    true => Dice::new(self.seed ^ 0x7361_6964, dice.skewed(SENTENCES)),
                    false => Dice::new(self.seed, dice.next()),
                };
                let words = said.below(14) + 4;
                self.phrase(&mut said, words, &mut paragraph);
                paragraph.push_str(["? ", "! "].get(dice.below(8) as usize).unwrap_or(&". "));
            }
            let mut width = 0;
            out.push_str(quote);
            for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
                if width + word.len() > 71 {
                    out.push('\n');
                    out.push_str(quote);
                    width = 0;
                }
                if width > 0 {
                    out.push(' ');
                }
                out.push_str(word);
                width += word.len() + 1;
            }
            out.push('\n');
            out.push_str(quote.trim_end());
            out.push('\n');
        }
    }
}
