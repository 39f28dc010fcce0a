//! The name of a stream with places for what a row says: `{aggregate_type}.v1`.
//!
//! In: the setting's text. Out: [`Template`]. It must stay true that a row that lacks what the name
//! asks for gets no name: two kinds of events must not end in one stream by accident.

/// What a name may hold.
pub const PLACES: [&str; 2] = ["event_type", "aggregate_type"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(&'static str),
}

/// A stream's name with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads it; in words what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        super::values::stream_name(text)?;
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (place, behind) = behind.split_once('}').ok_or("has a { that is never closed")?;
            let place = PLACES.into_iter().find(|known| *known == place);
            let place =
                place.ok_or("has a place that is neither {event_type} nor {aggregate_type}")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Place(place));
            rest = behind;
        }
        if rest.contains('}') {
            return Err("has a } that was never opened");
        }
        if pieces.is_empty() {
            return Err("has no place in braces: that is what stream_name is for");
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The name, with `value` for each place; none where one is missing or empty.
    #[must_use]
    pub fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Vec<u8>> {
        let mut name = Vec::with_capacity(64);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.extend_from_slice(text.as_bytes()),
                Piece::Place(place) => {
                    name.extend_from_slice(value(place).filter(|value| !value.is_empty())?);
                }
            }
        }
        Some(name)
    }

    /// Its pieces in order, each put into words by one of the two.
    pub fn pieces<T>(&self, text: impl Fn(&str) -> T, place: impl Fn(&'static str) -> T) -> Vec<T> {
        let one = |piece: &Piece| match piece {
            Piece::Text(literal) => text(literal),
            Piece::Place(name) => place(name),
        };
        self.0.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_filled_in_or_there_is_none() {
        let template = Template::parse("app.{aggregate_type}.{event_type}").unwrap();
        let fill = |of: Option<&'static [u8]>| {
            template.fill(|place| if place == "event_type" { of } else { Some(b"user") })
        };
        assert_eq!(fill(Some(b"Created")), Some(b"app.user.Created".to_vec()));
        assert_eq!(fill(Some(b"")), None);
        assert_eq!(fill(None), None);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in
            ["plain", "{event_type", "event_type}", "{payload}", "{}", "a b{event_type}", ""]
        {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        Template::parse("{event_type}").unwrap();
    }
}
