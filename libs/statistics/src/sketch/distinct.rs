use datasketches::{
    common::NumStdDev,
    hll::{HllSketch, HllType, HllUnion},
};
use serde::{Deserialize, Serialize};

use super::bytes::Base64Bytes;

/// 4,096 registers: a standard error of 1.6 %, in 4 KiB.
const LG_REGISTERS: u8 = 12;

/// How many different keys there were: HyperLogLog (Flajolet, Fusy, Gandouet and Meunier 2007) of Apache DataSketches,
/// whose bytes other languages read too.
///
/// Its registers are maxima, so neither order nor merging matters; the estimate used is the one that depends on the
/// registers alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Base64Bytes", into = "Base64Bytes")]
pub struct Distinct(HllSketch);

impl Distinct {
    /// No keys.
    pub fn new() -> Self {
        Self(HllSketch::new(LG_REGISTERS, HllType::Hll8).expect("12 is within the sketch's range"))
    }

    /// Takes a key in.
    pub fn add(&mut self, key: u64) {
        self.0.update(key);
    }

    /// Takes the keys of another part in.
    pub fn merge(&mut self, other: &Self) {
        self.0 = union(&self.0, &other.0);
    }

    /// The number of different keys.
    pub fn estimate(&self) -> f64 {
        self.0.composite_estimate()
    }

    /// Bounds that the number lies between with a confidence of 99.7 % (three standard deviations).
    pub fn bounds(&self) -> (f64, f64) {
        let registers = self.registers_alone();
        (registers.lower_bound(NumStdDev::Three), registers.upper_bound(NumStdDev::Three))
    }

    /// How many of this one's keys the other has too, at least, with a confidence of 99.7 %: what both have together is less than
    /// the sum of what each has by what they share, the three errors being added in squares.
    pub fn common_at_least(&self, other: &Self) -> f64 {
        let both = Self(union(&self.0, &other.0));
        let error = |of: &Self| (of.bounds().1 - of.bounds().0) / 2.0;
        let common = self.estimate() + other.estimate() - both.estimate();
        let uncertain = [self, other, &both].map(error).into_iter().fold(0.0, f64::hypot);
        (common - uncertain).max(0.0)
    }

    /// The same sketch without what it remembers of the order in which keys came, which a merge forgets.
    fn registers_alone(&self) -> HllSketch {
        union(&self.0, &self.0)
    }
}

fn union(one: &HllSketch, other: &HllSketch) -> HllSketch {
    let mut union = HllUnion::new(LG_REGISTERS).expect("12 is within the sketch's range");
    union.update(one);
    union.update(other);
    union.to_sketch(HllType::Hll8)
}

impl Default for Distinct {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Distinct {
    fn eq(&self, other: &Self) -> bool {
        // Of the same keys: none of either's is new to the other, and none of the registers of both together is higher.
        let both = Self(union(&self.0, &other.0)).estimate();
        self.registers_alone().estimate() == both && other.registers_alone().estimate() == both
    }
}

impl From<Distinct> for Base64Bytes {
    fn from(distinct: Distinct) -> Self {
        Self::of(&distinct.registers_alone().serialize())
    }
}

impl TryFrom<Base64Bytes> for Distinct {
    type Error = String;

    fn try_from(stored: Base64Bytes) -> Result<Self, String> {
        let bytes = stored.bytes()?;
        check(&bytes)?;
        let sketch = HllSketch::deserialize(&bytes).map_err(|error| error.to_string())?;
        // The decoder takes layouts of few keys that it does not check, all of them longer or shorter than what it writes.
        if sketch.serialize().len() != bytes.len() {
            return Err("the sketch is not laid out as this program writes it".to_owned());
        }
        // It also believes the sums that stand beside the registers. Here they are made anew.
        Ok(Self(Self(sketch).registers_alone()))
    }
}

/// Where the registers begin, if there are any.
const REGISTERS_AT: usize = 40;

/// The most leading zeros that a register counts, plus one.
const LARGEST_REGISTER: u8 = 63;

/// Refuses what is never written here before it is decoded: another number or type of registers, and values that none has, on
/// which the decoder's arithmetic overflows.
fn check(bytes: &[u8]) -> Result<(), String> {
    let &[_, _, _, lg_registers, _, _, _, mode, ..] = bytes else { return Err("the sketch is cut off".to_owned()) };
    if lg_registers != LG_REGISTERS {
        return Err(format!("the sketch has 2^{lg_registers} registers, not 2^{LG_REGISTERS}"));
    }
    // The type of the registers in two bits, 8 bits each being the third.
    if (mode >> 2) & 3 != 2 {
        return Err("the sketch's registers are not of 8 bits".to_owned());
    }
    let has_registers = mode & 3 == 2;
    if has_registers && bytes.iter().skip(REGISTERS_AT).any(|register| *register > LARGEST_REGISTER) {
        return Err("a register of the sketch is too large".to_owned());
    }
    Ok(())
}
