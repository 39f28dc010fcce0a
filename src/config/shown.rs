//! The settings as people see them: value and origin, and no secret.

use super::catalogue::{SETTINGS, Setting};
use super::database_url::DatabaseUrl;
use super::kind::Kind;
use super::redis_url;
use super::settings::Loaded;
use super::source::Origin;

/// A setting as people see it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Which.
    pub setting: &'static Setting,
    /// Its value; secrets hidden; `None` when it is not set.
    pub value: Option<String>,
    /// Where it was set.
    pub origin: Origin,
}

impl Loaded {
    /// Every setting as people see it, secrets hidden.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        SETTINGS.iter().map(|setting| self.show(setting)).collect()
    }

    fn show(&self, setting: &'static Setting) -> Shown {
        let text = self.text(setting.name);
        let value = match (setting.kind, text) {
            (Kind::DatabaseUrl, Some(text)) => {
                let hidden = DatabaseUrl::parse(&text.to_owned().into()).map(|url| url.redacted());
                Some(hidden.unwrap_or_else(|_| "***".to_owned()))
            }
            (Kind::RedisUrl, Some(text)) => Some(redis_url::redacted(text.trim())),
            (Kind::Token, Some(_)) => Some("***".to_owned()),
            (_, Some(text)) => Some(text.to_owned()),
            (_, None) if setting.name == "dlq_stream_name" => Some("<stream>.dlq".to_owned()),
            (_, None) => None,
        };
        Shown { setting, value, origin: self.origin(setting.name) }
    }
}
