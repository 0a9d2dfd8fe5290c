//! The key-value part of a GGUF file, and typed access to it.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use anyhow::{Context, Result, bail, ensure};

use super::{MAX_NAME_BYTES, Source};

mod list;

pub use list::{Integers, Texts};

/// A value as the file gives it; integers and floats are widened.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text, not necessarily UTF-8.
    Text(Vec<u8>),
    /// Many texts.
    Texts(Texts),
    /// Many integers.
    Integers(Integers),
    /// Many floats.
    Floats(Vec<f32>),
    /// Many truth values.
    Bools(Vec<bool>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

const ARRAY_TYPE: u32 = 9;

impl ScalarType {
    fn from_number(number: u32) -> Result<Self> {
        Ok(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => bail!("damaged: no value type has the number {number}"),
        })
    }

    /// The fewest bytes that a value takes in the file.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::Text | Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// What a GGUF file says about itself, by key.
#[derive(Debug, Default)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, count: u64) -> Result<Self> {
        let mut values = BTreeMap::new();
        for number in 0..count {
            let key = source
                .string(MAX_NAME_BYTES)
                .with_context(|| format!("the key of metadata entry {number} of {count}"))?;
            let value = read_value(source).with_context(|| format!("metadata `{key}`"))?;
            if values.insert(key.clone(), value).is_some() {
                bail!("damaged: metadata `{key}` is there twice");
            }
        }
        Ok(Self { values })
    }

    /// All keys, in alphabetical order, with their values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// An unsigned integer, if the key is there.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(*value)),
            Some(Value::Signed(value)) if *value >= 0 => Ok(Some(*value as u64)),
            Some(other) => bail!("metadata `{key}` is {}, not a count", other.describe()),
        }
    }

    /// An unsigned integer that must be there.
    pub fn required_u64(&self, key: &str) -> Result<u64> {
        self.u64(key)?
            .with_context(|| format!("metadata `{key}` is missing"))
    }

    /// A float, if the key is there.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() => Ok(Some(*value)),
            Some(other) => bail!(
                "metadata `{key}` is {}, not a finite float",
                other.describe()
            ),
        }
    }

    /// A truth value, if the key is there.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => bail!(
                "metadata `{key}` is {}, not true or false",
                other.describe()
            ),
        }
    }

    /// Text, if the key is there.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(bytes)) => {
                let text = std::str::from_utf8(bytes);
                text.map(Some)
                    .with_context(|| format!("metadata `{key}` is not UTF-8"))
            }
            Some(other) => bail!("metadata `{key}` is {}, not text", other.describe()),
        }
    }

    /// Many texts, if the key is there.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Texts(values)) => Ok(Some(values)),
            Some(other) => bail!(
                "metadata `{key}` is {}, not a list of texts",
                other.describe()
            ),
        }
    }

    /// Many integers, if the key is there.
    pub fn integers(&self, key: &str) -> Result<Option<&Integers>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Integers(values)) => Ok(Some(values)),
            Some(other) => {
                bail!(
                    "metadata `{key}` is {}, not a list of integers",
                    other.describe()
                )
            }
        }
    }

    /// Many floats, if the key is there.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Floats(values)) => Ok(Some(values)),
            Some(other) => bail!(
                "metadata `{key}` is {}, not a list of floats",
                other.describe()
            ),
        }
    }
}

impl Value {
    /// A number or a truth value as a number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            _ => None,
        }
    }

    /// A scalar as it is; of anything longer, what it is.
    pub fn describe(&self) -> String {
        match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(_) => "text".to_owned(),
            Self::Texts(_) => "a list of texts".to_owned(),
            Self::Integers(_) => "a list of integers".to_owned(),
            Self::Floats(_) => "a list of floats".to_owned(),
            Self::Bools(_) => "a list of truth values".to_owned(),
        }
    }
}

fn read_value<R: Read>(source: &mut Source<R>) -> Result<Value> {
    let number = source.u32("a value's type")?;
    if number == ARRAY_TYPE {
        return read_array(source);
    }
    let kind = ScalarType::from_number(number)?;
    Ok(match kind {
        ScalarType::F32 | ScalarType::F64 => Value::Float(read_float(source, kind)?),
        ScalarType::Bool => Value::Bool(read_bool(source)?),
        ScalarType::Text => Value::Text(source.bytes(u64::MAX)?),
        ScalarType::U8 | ScalarType::U16 | ScalarType::U32 => {
            Value::Unsigned(read_integer(source, kind)?.unsigned_abs())
        }
        ScalarType::U64 => Value::Unsigned(source.u64("a value")?),
        ScalarType::I8 | ScalarType::I16 | ScalarType::I32 | ScalarType::I64 => {
            Value::Signed(read_integer(source, kind)?)
        }
    })
}

fn read_array<R: Read>(source: &mut Source<R>) -> Result<Value> {
    let number = source.u32("a list's type")?;
    ensure!(number != ARRAY_TYPE, "a list of lists is not supported");
    let kind = ScalarType::from_number(number)?;
    let count = source.u64("a list's length")?;
    source.ensure_remaining(count.saturating_mul(kind.least_bytes()), "a list")?;
    Ok(match kind {
        ScalarType::Text => Value::Texts(Texts::read(source, count)?),
        ScalarType::Bool => Value::Bools(collect(count, || read_bool(source))?),
        ScalarType::F32 | ScalarType::F64 => {
            Value::Floats(collect(count, || Ok(read_float(source, kind)? as f32))?)
        }
        _ => Value::Integers(Integers::read(source, kind, count)?),
    })
}

/// As many items as the file was found to have room for; none takes more memory than it has bytes
/// in the file.
fn collect<T>(count: u64, mut read: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    let mut items = Vec::with_capacity(usize::try_from(count)?);
    for _ in 0..count {
        items.push(read()?);
    }
    Ok(items)
}

fn read_bool<R: Read>(source: &mut Source<R>) -> Result<bool> {
    match source.array::<1>("a value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => bail!("damaged: {other} is neither true nor false"),
    }
}

fn read_float<R: Read>(source: &mut Source<R>, kind: ScalarType) -> Result<f64> {
    Ok(match kind {
        ScalarType::F32 => f64::from(f32::from_le_bytes(source.array("a value")?)),
        _ => f64::from_le_bytes(source.array("a value")?),
    })
}

/// Every integer type but `u64`, which doesn't fit.
fn read_integer<R: Read>(source: &mut Source<R>, kind: ScalarType) -> Result<i64> {
    const WHAT: &str = "a value";
    Ok(match kind {
        ScalarType::U8 => i64::from(u8::from_le_bytes(source.array(WHAT)?)),
        ScalarType::I8 => i64::from(i8::from_le_bytes(source.array(WHAT)?)),
        ScalarType::U16 => i64::from(u16::from_le_bytes(source.array(WHAT)?)),
        ScalarType::I16 => i64::from(i16::from_le_bytes(source.array(WHAT)?)),
        ScalarType::U32 => i64::from(u32::from_le_bytes(source.array(WHAT)?)),
        ScalarType::I32 => i64::from(i32::from_le_bytes(source.array(WHAT)?)),
        _ => i64::from_le_bytes(source.array(WHAT)?),
    })
}
