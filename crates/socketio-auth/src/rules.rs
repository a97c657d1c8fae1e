//! A policy by role: who has one of these roles may do that, and nobody else anything.

use std::fmt;

use socketio::{Action, Decision, Policy, Who};

use crate::Identity;

/// What the roles of clients allow. What no rule allows is forbidden.
///
/// A pattern is a name, or the beginning of names and a `*`.
///
/// ```
/// use socketio_auth::Rules;
///
/// struct User {
///     roles: Vec<String>,
/// }
///
/// let rules = Rules::new(|user: &User, role: &str| user.roles.iter().any(|own| own == role))
///     .connect("member")
///     .join("member", "public:*")
///     .event("member", "say")
///     .emit("member", "public:*")
///     .event("admin", "*")
///     .everybody_event(socketio_auth::REAUTHENTICATE);
/// let chat = socketio::Namespace::new("/chat").policy(rules);
/// # let _ = chat;
/// ```
#[must_use]
pub struct Rules<C> {
    has: HasRole<C>,
    rules: Vec<Rule>,
}

/// Whether a client has a role.
type HasRole<C> = Box<dyn Fn(&C, &str) -> bool + Send + Sync>;

struct Rule {
    /// `None` for everybody who has logged in.
    role: Option<Box<str>>,
    what: What,
    pattern: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Connect,
    Join,
    Event,
    Emit,
}

impl<C: Send + Sync + 'static> Rules<C> {
    /// No rules: nobody may do anything. `has` says whether a client has a role.
    pub fn new(has: impl Fn(&C, &str) -> bool + Send + Sync + 'static) -> Self {
        Self { has: Box::new(has), rules: Vec::new() }
    }

    /// Who has this role may connect.
    pub fn connect(self, role: &str) -> Self {
        self.rule(Some(role), What::Connect, "*")
    }

    /// Who has this role may be put into these rooms.
    pub fn join(self, role: &str, rooms: &str) -> Self {
        self.rule(Some(role), What::Join, rooms)
    }

    /// Who has this role may send these events.
    pub fn event(self, role: &str, events: &str) -> Self {
        self.rule(Some(role), What::Event, events)
    }

    /// In the name of who has this role something may be sent to these rooms; to everybody where the pattern is `*`.
    pub fn emit(self, role: &str, rooms: &str) -> Self {
        self.rule(Some(role), What::Emit, rooms)
    }

    /// Everybody who has logged in may connect.
    pub fn everybody_connect(self) -> Self {
        self.rule(None, What::Connect, "*")
    }

    /// Everybody who has logged in may send these events.
    pub fn everybody_event(self, events: &str) -> Self {
        self.rule(None, What::Event, events)
    }

    /// Everybody who has logged in may be put into these rooms.
    pub fn everybody_join(self, rooms: &str) -> Self {
        self.rule(None, What::Join, rooms)
    }

    fn rule(mut self, role: Option<&str>, what: What, pattern: &str) -> Self {
        self.rules.push(Rule { role: role.map(Into::into), what, pattern: pattern.into() });
        self
    }
}

impl Rule {
    fn fits(&self, what: What, name: &str) -> bool {
        self.what == what
            && match self.pattern.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == &*self.pattern,
            }
    }
}

impl<C: Send + Sync + 'static> Policy for Rules<C> {
    fn decide(&self, who: &Who<'_>, action: &Action<'_>) -> Decision {
        let (what, name) = match *action {
            Action::Connect => (What::Connect, ""),
            Action::Join { room } => (What::Join, room),
            Action::Event { name } => (What::Event, name),
            Action::Emit { room, .. } => (What::Emit, room.unwrap_or_default()),
            _ => return Decision::Deny("no rule"),
        };
        let Some(claims) = Identity::<C>::of(who) else { return Decision::Deny("not logged in") };
        let allowed = self
            .rules
            .iter()
            .any(|rule| rule.fits(what, name) && rule.role.as_deref().is_none_or(|role| (self.has)(&claims, role)));
        if allowed { Decision::Allow } else { Decision::Deny("no rule") }
    }
}

impl<C> fmt::Debug for Rules<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use socketio::Extensions;

    use super::*;

    #[test]
    fn rules_are_asked_without_a_server_and_what_none_allows_is_forbidden() {
        let rules = Rules::new(|roles: &Vec<&str>, role| roles.contains(&role))
            .everybody_connect()
            .join("member", "public:*")
            .event("member", "say")
            .emit("member", "public:*")
            .event("admin", "*")
            .emit("admin", "*");
        let emit = |room| Action::Emit { room, event: "said" };
        for (roles, action, want) in [
            (Some(vec![]), Action::Connect, true),
            (None, Action::Connect, false),
            (Some(vec![]), Action::Event { name: "say" }, false),
            (Some(vec!["member"]), Action::Event { name: "say" }, true),
            (Some(vec!["member"]), Action::Event { name: "says" }, false),
            (Some(vec!["member"]), Action::Join { room: "public:1" }, true),
            (Some(vec!["member"]), Action::Join { room: "staff" }, false),
            (Some(vec!["admin"]), Action::Join { room: "public:1" }, false),
            (Some(vec!["admin"]), Action::Event { name: "say" }, true),
            (Some(vec!["member"]), emit(Some("public:1")), true),
            (Some(vec!["member"]), emit(None), false),
            (Some(vec!["admin"]), emit(None), true),
        ] {
            let known = Extensions::default();
            if let Some(roles) = roles.clone() {
                known.insert(Identity::new(roles));
            }
            let decision = rules.decide(&Who::new("/chat", "id", &known), &action);
            assert_eq!(decision == Decision::Allow, want, "{roles:?} {action:?}");
        }
    }
}
