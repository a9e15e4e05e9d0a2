//! The stack machine: runs the instructions of one pickle and leaves one object.

use std::{collections::HashMap, io::Read};

use tapetum_runtime::{Error, Result};

use super::{
    Arena, Id, Node, Pickle, Source,
    globals::Global,
    opcodes::Op,
    rebuild::{self, Copied},
};
use crate::checkpoint::limits::Limits;

/// Reads one pickle up to and including its STOP.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] with the byte offset and the instruction, if the pickle is cut short,
/// is malformed, exceeds `limits` or names anything that is not on the allow-list.
pub(in crate::checkpoint) fn parse<R: Read>(source: &mut Source<R>, limits: &Limits) -> Result<Pickle> {
    let mut machine = Machine {
        arena: Arena::new(limits.objects, limits.depth),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: Copied::new(limits.objects),
        limits,
    };
    loop {
        let at = source.offset();
        let byte = source.byte().map_err(|e| e.at(format_args!("pickle byte {at}")))?;
        let Some(op) = Op::from_byte(byte) else {
            return Err(Error::bad_file(format!("pickle byte {at}: no state dict needs opcode {byte:#04x}")));
        };
        if op == Op::Stop {
            let root = machine.pop().map_err(|e| e.at(format_args!("pickle byte {at} (STOP)")))?;
            return Ok(Pickle { arena: machine.arena, root });
        }
        machine.step(op, source).map_err(|e| e.at(format_args!("pickle byte {at} ({})", op.name())))?;
    }
}

struct Machine<'a> {
    arena: Arena,
    stack: Vec<Id>,
    /// Stack heights.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    copied: Copied,
    limits: &'a Limits,
}

impl Machine<'_> {
    fn step<R: Read>(&mut self, op: Op, source: &mut Source<R>) -> Result<()> {
        match op {
            Op::Stop => Err(Error::internal("STOP is handled by the loop")),
            Op::Proto => match source.byte()? {
                0..=5 => Ok(()),
                version => Err(Error::unsupported(format!("pickle protocol {version} is not known"))),
            },
            Op::Frame => source.array::<8>().map(drop),
            Op::Mark => self.mark(),
            Op::Pop => self.pop_or_mark(),
            Op::PopMark => self.pop_to_mark().map(drop),
            Op::Dup => self.top().and_then(|top| self.push(top)),

            Op::None => self.push(Arena::NONE),
            Op::NewTrue => self.push(Arena::TRUE),
            Op::NewFalse => self.push(Arena::FALSE),
            Op::BinInt => {
                let value = i32::from_le_bytes(source.array()?);
                self.int(value.into())
            }
            Op::BinInt1 => {
                let value = source.byte()?;
                self.int(value.into())
            }
            Op::BinInt2 => {
                let value = u16::from_le_bytes(source.array()?);
                self.int(value.into())
            }
            Op::Long1 => {
                let length = source.byte()?;
                let bytes = source.bytes(length.into())?;
                self.long(&bytes)
            }
            Op::Long4 => {
                let length = u32::from_le_bytes(source.array()?);
                let bytes = source.bytes(length.into())?;
                self.long(&bytes)
            }
            Op::Int | Op::Long => {
                let line = source.line()?;
                self.decimal(&line)
            }
            Op::BinFloat => {
                let value = f64::from_be_bytes(source.array()?);
                self.push_new(Node::Float(value))
            }
            Op::Float => {
                let line = source.line()?;
                let value =
                    line.parse().map_err(|_| Error::bad_file(format!("{:?} is no float", brief(&line))))?;
                self.push_new(Node::Float(value))
            }

            Op::ShortBinUnicode => {
                let length = source.byte()?;
                self.string(source, length.into())
            }
            Op::BinUnicode => {
                let length = u32::from_le_bytes(source.array()?);
                self.string(source, length.into())
            }
            Op::BinUnicode8 => {
                let length = u64::from_le_bytes(source.array()?);
                self.string(source, length)
            }
            Op::Unicode => {
                let line = source.line()?;
                self.push_new(Node::Str(line.into()))
            }
            Op::ShortBinString => {
                let length = source.byte()?;
                self.old_string(source, length.into())
            }
            Op::BinString => {
                let length = u32::from_le_bytes(source.array()?);
                self.old_string(source, length.into())
            }
            Op::ShortBinBytes => {
                let length = source.byte()?;
                self.skip_bytes(source, length.into())
            }
            Op::BinBytes => {
                let length = u32::from_le_bytes(source.array()?);
                self.skip_bytes(source, length.into())
            }
            Op::BinBytes8 | Op::ByteArray8 => {
                let length = u64::from_le_bytes(source.array()?);
                self.skip_bytes(source, length)
            }

            Op::EmptyTuple => self.push_new(Node::Tuple(Box::default())),
            Op::Tuple1 => self.tuple_of(1),
            Op::Tuple2 => self.tuple_of(2),
            Op::Tuple3 => self.tuple_of(3),
            Op::Tuple => {
                let items = self.pop_to_mark()?;
                self.push_over(Node::Tuple(items.clone().into()), &items)
            }
            Op::EmptyList => self.push_new(Node::List(Vec::new())),
            Op::List => {
                let items = self.pop_to_mark()?;
                self.push_over(Node::List(items.clone()), &items)
            }
            Op::Append => {
                let item = self.pop()?;
                self.append(&[item])
            }
            Op::Appends => {
                let items = self.pop_to_mark()?;
                self.append(&items)
            }
            Op::EmptyDict => self.push_new(Node::Dict(Vec::new())),
            Op::Dict => {
                let items = self.pop_to_mark()?;
                self.push_new(Node::Dict(Vec::new()))?;
                self.set_items(&items)
            }
            Op::SetItem => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            Op::SetItems => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            Op::EmptySet => self.push_new(Node::Opaque("a set")),
            Op::AddItems => self.pop_to_mark().map(drop),
            Op::FrozenSet => {
                self.pop_to_mark()?;
                self.push_new(Node::Opaque("a frozenset"))
            }

            Op::Get => {
                let index = self.index(source)?;
                self.recall(index)
            }
            Op::BinGet => {
                let index = source.byte()?;
                self.recall(index.into())
            }
            Op::LongBinGet => {
                let index = u32::from_le_bytes(source.array()?);
                self.recall(index)
            }
            Op::Put => {
                let index = self.index(source)?;
                self.remember(index)
            }
            Op::BinPut => {
                let index = source.byte()?;
                self.remember(index.into())
            }
            Op::LongBinPut => {
                let index = u32::from_le_bytes(source.array()?);
                self.remember(index)
            }
            Op::Memoize => {
                let index =
                    u32::try_from(self.memo.len()).map_err(|_| Error::bad_file("the memo is full"))?;
                self.remember(index)
            }

            Op::Global => {
                let (module, name) = (source.line()?, source.line()?);
                self.push_new(Node::Global(Global::parse(&module, &name)?))
            }
            Op::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.arena.str(module), self.arena.str(name)) else {
                    return Err(Error::bad_file("a Python name is not made of two texts"));
                };
                let global = Global::parse(module, name)?;
                self.push_new(Node::Global(global))
            }
            Op::BinPersId => {
                let id = self.pop()?;
                let storage = rebuild::persistent(&self.arena, id)?;
                self.push_new(Node::Storage(Box::new(storage)))
            }
            Op::Reduce => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let made = rebuild::call(&mut self.arena, &mut self.copied, callable, args)?;
                self.push(made)
            }
            Op::NewObj => {
                let (_args, class) = (self.pop()?, self.pop()?);
                let made = rebuild::instance(&mut self.arena, class)?;
                self.push(made)
            }
            Op::Build => {
                let _state = self.pop()?;
                let built = self.top()?;
                rebuild::accepts_state(&self.arena, built)
            }
        }
    }

    fn push(&mut self, id: Id) -> Result<()> {
        if self.stack.len() >= self.limits.objects {
            return Err(Error::bad_file(format!(
                "the pickle's stack exceeds {} objects",
                self.limits.objects
            )));
        }
        self.stack.push(id);
        Ok(())
    }

    fn push_new(&mut self, node: Node) -> Result<()> {
        let id = self.arena.add(node)?;
        self.push(id)
    }

    fn push_over(&mut self, node: Node, items: &[Id]) -> Result<()> {
        let below = self.arena.depth_over(items);
        let id = self.arena.add_over(node, below)?;
        self.push(id)
    }

    /// Lowest stack height that the current MARK lets instructions reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(Error::bad_file("the pickle's stack is empty here")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn mark(&mut self) -> Result<()> {
        if self.marks.len() >= self.limits.depth {
            return Err(Error::bad_file(format!(
                "the pickle nests more than {} levels deep",
                self.limits.depth
            )));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_or_mark(&mut self) -> Result<()> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let height = self.marks.pop().ok_or_else(|| Error::bad_file("there is no MARK to go back to"))?;
        if height > self.stack.len() {
            return Err(Error::internal("a MARK lies above the stack"));
        }
        Ok(self.stack.split_off(height))
    }

    fn int(&mut self, value: i64) -> Result<()> {
        self.push_new(Node::Int(value))
    }

    /// Little-endian two's complement of any length.
    fn long(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > 8 {
            return self.push_new(Node::BigInt(bytes.into()));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.int(i64::from_le_bytes(wide))
    }

    fn decimal(&mut self, line: &str) -> Result<()> {
        match line {
            "00" => self.push(Arena::FALSE),
            "01" => self.push(Arena::TRUE),
            _ => {
                let digits = line.strip_suffix('L').unwrap_or(line);
                let value = digits
                    .parse()
                    .map_err(|_| Error::bad_file(format!("{:?} is no 64-bit integer", brief(line))))?;
                self.int(value)
            }
        }
    }

    fn string<R: Read>(&mut self, source: &mut Source<R>, length: u64) -> Result<()> {
        let text = source.string(length)?;
        self.push_new(Node::Str(text.into()))
    }

    /// Python 2's byte strings: names if they are text, otherwise of no interest.
    fn old_string<R: Read>(&mut self, source: &mut Source<R>, length: u64) -> Result<()> {
        let bytes = source.bytes(length)?;
        let node = String::from_utf8(bytes).map_or(Node::Bytes, |text| Node::Str(text.into()));
        self.push_new(node)
    }

    fn skip_bytes<R: Read>(&mut self, source: &mut Source<R>, length: u64) -> Result<()> {
        source.skip(length)?;
        self.push_new(Node::Bytes)
    }

    fn tuple_of(&mut self, count: usize) -> Result<()> {
        let height = self.stack.len().checked_sub(count).filter(|&height| height >= self.floor());
        let height = height.ok_or_else(|| Error::bad_file(format!("the stack holds fewer than {count}")))?;
        let items = self.stack.split_off(height);
        self.push_over(Node::Tuple(items.clone().into()), &items)
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        let list = self.top()?;
        self.arena.deepen(list, items)?;
        match self.arena.get_mut(list) {
            Some(Node::List(elements)) => {
                elements.extend_from_slice(items);
                Ok(())
            }
            Some(Node::Opaque(_)) => Ok(()),
            _ => Err(Error::bad_file(format!("{} cannot be appended to", self.arena.get(list).kind()))),
        }
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::bad_file(format!("{} keys and values do not pair up", items.len())));
        }
        self.arena.deepen(dict, items)?;
        match self.arena.get_mut(dict) {
            Some(Node::Dict(entries)) => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            Some(Node::Opaque(_)) => Ok(()),
            _ => Err(Error::bad_file(format!("{} has no items to set", self.arena.get(dict).kind()))),
        }
    }

    fn index<R: Read>(&mut self, source: &mut Source<R>) -> Result<u32> {
        let line = source.line()?;
        line.parse().map_err(|_| Error::bad_file(format!("{:?} is no memo index", brief(&line))))
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let id = self.memo.get(&index).copied();
        self.push(id.ok_or_else(|| Error::bad_file(format!("memo entry {index} was never set")))?)
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let top = self.top()?;
        if self.memo.len() >= self.limits.objects && !self.memo.contains_key(&index) {
            return Err(Error::bad_file(format!("the memo exceeds {} entries", self.limits.objects)));
        }
        self.memo.insert(index, top);
        Ok(())
    }
}

fn brief(text: &str) -> String {
    text.chars().take(40).collect()
}
