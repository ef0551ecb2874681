//! Netlink attributes, written and read: `length, kind, data`, padded to four bytes.

/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// Bits of a kind that say something about it.
const FLAGS: u16 = 0xc000;
/// Bytes before the data.
const HEAD: usize = 4;

/// The bytes of messages in the making.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn put(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        let length = u16::try_from(data.len() + HEAD).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.pad()
    }

    pub(crate) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let length = u16::try_from(text.len() + HEAD + 1).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self.pad()
    }

    pub(crate) fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_be_bytes())
    }

    /// Whatever `make` puts is inside of one attribute.
    pub(crate) fn nest(&mut self, kind: u16, make: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        make(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn pad(&mut self) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(HEAD), 0);
        self
    }
}

/// The attributes in `bytes`, with their kinds; what is cut off is left out.
pub(crate) fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEAD>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & !FLAGS;
        let data = bytes.get(HEAD..length)?;
        bytes = bytes.get(length.next_multiple_of(HEAD)..).unwrap_or_default();
        Some((kind, data))
    })
}

/// The data of the attribute `kind`, if it is in `bytes`.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find(|(found, _)| *found == kind).map(|(_, data)| data)
}

/// The text in `data`, up to where it ends.
pub(crate) fn text(data: &[u8]) -> String {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_again() {
        let mut bytes = Attributes::default();
        bytes.text(1, "ab").nest(2, |inner| {
            inner.number(3, 1);
        });
        assert_eq!(bytes.0, [7, 0, 1, 0, b'a', b'b', 0, 0, 12, 0, 2, 0x80, 8, 0, 3, 0, 0, 0, 0, 1]);
        assert_eq!(read(&bytes.0).map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(find(&bytes.0, 1).map(text).as_deref(), Some("ab"));
        assert_eq!(find(&bytes.0, 2).and_then(|inner| find(inner, 3)), Some([0, 0, 0, 1].as_slice()));
        assert_eq!(find(&bytes.0, 3), None);
        assert_eq!(read(&bytes.0[..10]).count(), 1, "the second is cut off");
        assert_eq!(read(&[1, 0, 0, 0]).count(), 0, "shorter than its head");
    }
}
