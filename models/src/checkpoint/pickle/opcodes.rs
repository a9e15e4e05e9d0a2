//! The pickle opcodes that the machine understands (protocols 2 to 5, and what Python 2 wrote with protocol 2).

macro_rules! opcodes {
    ($($byte:literal $variant:ident $name:literal),+ $(,)?) => {
        /// One instruction of a pickle.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Op {
            $($variant),+
        }

        impl Op {
            /// `None` if this is no opcode or one that no state dict needs.
            pub(super) fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The name that `python -m pickletools` shows.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

opcodes! {
    b'(' Mark "MARK",
    b'.' Stop "STOP",
    b'0' Pop "POP",
    b'1' PopMark "POP_MARK",
    b'2' Dup "DUP",
    b'F' Float "FLOAT",
    b'I' Int "INT",
    b'J' BinInt "BININT",
    b'K' BinInt1 "BININT1",
    b'L' Long "LONG",
    b'M' BinInt2 "BININT2",
    b'N' None "NONE",
    b'Q' BinPersId "BINPERSID",
    b'R' Reduce "REDUCE",
    b'T' BinString "BINSTRING",
    b'U' ShortBinString "SHORT_BINSTRING",
    b'V' Unicode "UNICODE",
    b'X' BinUnicode "BINUNICODE",
    b'a' Append "APPEND",
    b'b' Build "BUILD",
    b'c' Global "GLOBAL",
    b'd' Dict "DICT",
    b'e' Appends "APPENDS",
    b'g' Get "GET",
    b'h' BinGet "BINGET",
    b'j' LongBinGet "LONG_BINGET",
    b'l' List "LIST",
    b'p' Put "PUT",
    b'q' BinPut "BINPUT",
    b'r' LongBinPut "LONG_BINPUT",
    b's' SetItem "SETITEM",
    b't' Tuple "TUPLE",
    b'u' SetItems "SETITEMS",
    b'}' EmptyDict "EMPTY_DICT",
    b']' EmptyList "EMPTY_LIST",
    b')' EmptyTuple "EMPTY_TUPLE",
    b'G' BinFloat "BINFLOAT",
    b'B' BinBytes "BINBYTES",
    b'C' ShortBinBytes "SHORT_BINBYTES",
    0x80 Proto "PROTO",
    0x81 NewObj "NEWOBJ",
    0x85 Tuple1 "TUPLE1",
    0x86 Tuple2 "TUPLE2",
    0x87 Tuple3 "TUPLE3",
    0x88 NewTrue "NEWTRUE",
    0x89 NewFalse "NEWFALSE",
    0x8a Long1 "LONG1",
    0x8b Long4 "LONG4",
    0x8c ShortBinUnicode "SHORT_BINUNICODE",
    0x8d BinUnicode8 "BINUNICODE8",
    0x8e BinBytes8 "BINBYTES8",
    0x8f EmptySet "EMPTY_SET",
    0x90 AddItems "ADDITEMS",
    0x91 FrozenSet "FROZENSET",
    0x93 StackGlobal "STACK_GLOBAL",
    0x94 Memoize "MEMOIZE",
    0x95 Frame "FRAME",
    0x96 ByteArray8 "BYTEARRAY8",
}
