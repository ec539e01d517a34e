//! v1's pages: a token is the page's size and number, base64url of four bytes, little-endian. Nothing is kept between
//! pages.

use crate::api::server::error::Failure;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A requested page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    limit: u16,
    /// From 1.
    number: u16,
}

impl Page {
    /// The page that a query requests: without a token, the first one.
    pub(super) fn of(query: &[(String, String)], limit: u16) -> Result<Self, Failure> {
        let mut tokens = query.iter().filter(|(key, _)| key == "nextPageToken").map(|(_, value)| value);
        let Some(token) = tokens.next() else { return Ok(Self { limit, number: 1 }) };
        if tokens.next().is_some() {
            return Err(Failure::bad_request("too many values for page token"));
        }
        let page = Self::decode(token).ok_or_else(|| {
            Failure::bad_request("invalid page token: it must be the nextPageToken of the page before")
        })?;
        if page.limit != limit {
            return Err(Failure::bad_request(format!("token limit must be {limit}")));
        }
        if page.number == 0 {
            return Err(Failure::bad_request("token page must be greater than zero"));
        }
        Ok(page)
    }

    /// How many items must be known to cut this page, and to determine whether another one follows.
    pub(super) fn reach(self) -> usize {
        usize::from(self.limit) * usize::from(self.number) + 1
    }

    /// The items of this page, and the token of the next one if there is one.
    pub(super) fn cut<T>(self, mut entries: impl Iterator<Item = T>) -> (Vec<T>, Option<String>) {
        let limit = usize::from(self.limit);
        let before = limit * usize::from(self.number - 1);
        let page: Vec<T> = entries.by_ref().skip(before).take(limit).collect();
        let next = self.number.checked_add(1).filter(|_| entries.next().is_some());
        (page, next.map(|number| Self { number, ..self }.encode()))
    }

    fn encode(self) -> String {
        let [a, b] = self.limit.to_le_bytes();
        let [c, d] = self.number.to_le_bytes();
        let bits = u64::from_be_bytes([0, 0, a, b, c, d, 0, 0]);
        // 32 bits are five digits of six bits and two more bits, which are in a sixth digit.
        let digits = (0..6).map(|digit| char::from(ALPHABET[(bits >> (42 - 6 * digit) & 63) as usize]));
        digits.chain(['=', '=']).collect()
    }

    fn decode(token: &str) -> Option<Self> {
        let digits = token.strip_suffix("==").unwrap_or(token);
        if digits.len() != 6 {
            return None;
        }
        let bits = digits.bytes().try_fold(0_u64, |bits, digit| {
            let value = ALPHABET.iter().position(|known| *known == digit)?;
            Some(bits << 6 | value as u64)
        })?;
        let [_, _, _, a, b, c, d, _] = (bits << 4).to_be_bytes();
        Some(Self { limit: u16::from_le_bytes([a, b]), number: u16::from_le_bytes([c, d]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(tokens: &[&str]) -> Vec<(String, String)> {
        tokens.iter().map(|token| ("nextPageToken".into(), (*token).into())).collect()
    }

    #[test]
    fn tokens_are_fleets() {
        let page = Page { limit: 3, number: 2 };
        assert_eq!(page.encode(), "AwACAA==");
        assert_eq!(Page::of(&query(&["AwACAA=="]), 3), Ok(page));
        for (limit, number) in [(100, 1), (u16::MAX, u16::MAX), (0, 0), (258, 772)] {
            let page = Page { limit, number };
            assert_eq!(Page::decode(&page.encode()), Some(page));
        }
    }

    #[test]
    fn bad_tokens_are_refused() {
        let message = |tokens: &[&str]| Page::of(&query(tokens), 4).unwrap_err().message;
        assert_eq!(message(&["AwACAA=="]), "token limit must be 4");
        assert_eq!(message(&["BAAAAA=="]), "token page must be greater than zero");
        assert_eq!(message(&["BAACAA==", "BAACAA=="]), "too many values for page token");
        for bad in ["", "=", "AwACAA=", "AwAC!A==", "AwACAAAAAA=="] {
            assert!(message(&[bad]).starts_with("invalid page token"), "{bad}");
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = |number| Page { limit: 2, number }.cut(1..=4);
        assert_eq!(page(1), (vec![1, 2], Some(Page { limit: 2, number: 2 }.encode())));
        assert_eq!(page(2), (vec![3, 4], None));
        assert_eq!(page(3), (vec![], None));
    }
}
