//! The settings that are one of a few words.
//!
//! In: a word in lower case. Out: a variant. It must stay true that each word stands here once; the
//! catalogue's lists are compared with these by a test.

/// A setting that is one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$about:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$about])* $variant),+ }

        impl $name {
            /// The word for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub(super) fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// How an entry is written.
    EntryFormat {
        /// A field per value.
        Fields = "fields",
        /// One field `data`: the envelope as a JSON object.
        Json = "json",
        /// One field `data`: CloudEvents 1.0, structured JSON.
        Cloudevents = "cloudevents",
    }
}
words! {
    /// What happens to a row once its entry is safe.
    AfterPublish {
        /// published = true, published_at = now().
        Mark = "mark",
        /// It is deleted.
        Delete = "delete",
        /// Nothing.
        Keep = "keep",
    }
}
words! {
    /// How events are found.
    Mode {
        /// By logical replication.
        Wal = "wal",
        /// By claiming unpublished rows.
        Poll = "poll",
        /// The first where the server allows it, else the second.
        Auto = "auto",
    }
}
words! {
    /// What events do behind a parked one.
    Ordering {
        /// Later ones of its aggregate wait behind it.
        PerAggregate = "per-aggregate",
        /// They overtake it.
        None = "none",
    }
}
words! {
    /// What a new slot does about the unpublished rows from before it.
    Backlog {
        /// They are published first.
        Publish = "publish",
        /// They are left as they are.
        Ignore = "ignore",
    }
}
words! {
    /// What becomes of an event that breaks its schema.
    SchemaValidation {
        /// Nobody looks.
        Off = "off",
        /// It is published and told.
        Warn = "warn",
        /// It goes to the dead letters.
        Reject = "reject",
    }
}
words! {
    /// How log lines look.
    LogFormat {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// Text.
        Text = "text",
        /// A JSON object a line.
        Json = "json",
    }
}
words! {
    /// How much is logged.
    LogLevel {
        /// What somebody must act on.
        Error = "error",
        /// And what ends by itself.
        Warn = "warn",
        /// And what happens.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And everything.
        Trace = "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;
    use crate::config::{Kind, SETTINGS};

    #[test]
    fn the_catalogue_and_the_types_know_the_same_words() {
        let is_known = |name: &str, word: &str| match name {
            "entry_format" => EntryFormat::parse(word).is_some(),
            "after_publish" => AfterPublish::parse(word).is_some(),
            "mode" => Mode::parse(word).is_some(),
            "ordering" => Ordering::parse(word).is_some(),
            "backlog" => Backlog::parse(word).is_some(),
            "schema_validation" => SchemaValidation::parse(word).is_some(),
            "outbox_preset" => Preset::parse(word).is_some(),
            "log_format" => LogFormat::parse(word).is_some(),
            "log_level" => {
                LogLevel::parse(word).is_some() || ["warning", "critical"].contains(&word)
            }
            _ => false,
        };
        for setting in SETTINGS {
            let Kind::Word(words) = setting.kind else { continue };
            for word in words {
                assert!(is_known(setting.name, word), "{} = {word}", setting.name);
            }
        }
    }
}
