//! Namespaces whose names are not known beforehand: the rules they come from, and the children that exist.
//!
//! A child is made when the first client asks for it and shares the handlers of its parent. It is owned by its sockets and
//! by handles to it, so that with the last of them it is gone; with `cleanup_empty_child_namespaces(false)` the parent owns
//! it too.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;
use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_adapter::IntoRooms;
use socketio_core::{Event, FromEvent, Rejection, StateMap};
use socketio_proto::{Args, INVALID_NAMESPACE, Map, Payload, TOO_MANY_NAMESPACES, Value};

use crate::context::SocketContext;
use crate::env::{Env, ErrorHook};
use crate::hub::Hub;
use crate::namespace::Table;
use crate::nsp::Nsp;
use crate::{AckStream, Broadcasted, Joined, NamespaceHandle, Operators, RemoteSocket, Socket};

/// Which names a dynamic namespace stands for.
#[derive(Clone)]
pub(crate) enum Rule {
    /// Names that match as a whole.
    Matching(Regex),
    /// Names that the application allows.
    Allowed(Predicate),
}

/// Asks the application. `None` when the `auth` payload does not fit what it wants to see.
type Predicate = Arc<dyn Fn(&str, &Payload<'_>) -> Option<Pin<Box<dyn Future<Output = bool> + Send>>> + Send + Sync>;

/// The parts of a name that a pattern gave names to, in order.
pub(crate) type NameParts = Box<[(Box<str>, Box<str>)]>;

impl Rule {
    /// `/project/{id}` and `/files/{*path}`: what stands in braces is one part of the name, or the rest of it.
    pub(crate) fn pattern(pattern: &str) -> Result<Self, String> {
        let mut regex = String::with_capacity(pattern.len() + 32);
        let mut rest = pattern;
        while let Some((before, open)) = rest.split_once('{') {
            let (part, behind) = open.split_once('}').ok_or("a `{` has no `}`")?;
            let (name, what) = part.strip_prefix('*').map_or((part, "[^/]+"), |name| (name, ".+"));
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(format!("`{{{part}}}` has no name of letters and digits"));
            }
            regex.push_str(&regex::escape(before));
            regex.push_str(&format!("(?P<{name}>{what})"));
            rest = behind;
        }
        regex.push_str(&regex::escape(rest));
        Self::regex(&regex)
    }

    pub(crate) fn regex(regex: &str) -> Result<Self, String> {
        Regex::new(&format!("^(?:{regex})$")).map(Self::Matching).map_err(|error| error.to_string())
    }

    pub(crate) fn predicate<T, F, Fut>(predicate: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(String, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self::Allowed(Arc::new(move |name, auth| Some(Box::pin(predicate(name.to_owned(), auth.deserialize().ok()?)))))
    }

    /// The parts of the name, if it matches without asking anybody.
    fn parts(&self, name: &str) -> Option<NameParts> {
        let Self::Matching(regex) = self else { return None };
        let captures = regex.captures(name)?;
        let named = regex.capture_names().flatten();
        Some(named.filter_map(|key| Some((key.into(), captures.name(key)?.as_str().into()))).collect())
    }
}

/// A dynamic namespace: what its children have in common, and which exist.
pub(crate) struct Parent {
    pub(crate) name: Box<str>,
    rule: Rule,
    env: Arc<Env>,
    table: Arc<Table>,
    states: StateMap,
    on_error: Option<ErrorHook>,
    /// Guards which children exist.
    children: Mutex<HashMap<Box<str>, Entry>>,
}

struct Entry {
    child: Weak<Nsp>,
    /// Keeps the child, where empty children are to be kept.
    _kept: Option<Arc<Nsp>>,
}

/// What a namespace knows of its parent.
pub(crate) struct Child {
    parent: Weak<Parent>,
    parts: NameParts,
}

/// How many children all parents have.
#[derive(Debug, Default)]
pub(crate) struct ChildCount(AtomicUsize);

impl Parent {
    pub(crate) fn new(
        name: Box<str>,
        rule: Rule,
        env: Arc<Env>,
        table: Arc<Table>,
        states: StateMap,
        on_error: Option<ErrorHook>,
    ) -> Self {
        Self { name, rule, env, table, states, on_error, children: Mutex::default() }
    }

    /// The child of this name, if it exists.
    pub(crate) fn existing(&self, name: &str) -> Option<Arc<Nsp>> {
        self.children.lock().get(name)?.child.upgrade()
    }

    /// All children that exist.
    pub(crate) fn all(&self) -> Vec<Arc<Nsp>> {
        // Collected first: one that is dropped takes itself out of the table.
        self.children.lock().values().filter_map(|entry| entry.child.upgrade()).collect()
    }

    /// The child of this name, made if need be. `None` when there are too many.
    fn child(self: &Arc<Self>, name: &str, parts: NameParts) -> Option<Arc<Nsp>> {
        let nsp = {
            let mut children = self.children.lock();
            if let Some(nsp) = children.get(name).and_then(|entry| entry.child.upgrade()) {
                return Some(nsp);
            }
            let count = &self.env.children.0;
            if count.fetch_add(1, Ordering::Relaxed) >= self.env.limits.max_child_namespaces {
                count.fetch_sub(1, Ordering::Relaxed);
                self.env.counters.children_refused.add();
                return None;
            }
            let child = Box::new(Child { parent: Arc::downgrade(self), parts });
            let states = self.states.clone();
            let (env, table) = (Arc::clone(&self.env), Arc::clone(&self.table));
            let nsp = Arc::new(Nsp::new(name.into(), env, table, states, self.on_error.clone(), Some(child)));
            let kept = (!self.env.cleanup_empty_child_namespaces).then(|| Arc::clone(&nsp));
            children.insert(name.into(), Entry { child: Arc::downgrade(&nsp), _kept: kept });
            nsp
        };
        tracing::debug!(namespace = name, parent = %self.name, "a namespace was made");
        nsp.join_cluster();
        self.env.announce(&nsp);
        Some(nsp)
    }
}

impl Env {
    /// Tells the application of a namespace that is new.
    pub(crate) fn announce(&self, nsp: &Arc<Nsp>) {
        self.counters.namespaces_created.add();
        if let Some(hook) = &self.on_new_namespace {
            hook(&NamespaceHandle::new(Arc::clone(nsp)));
        }
    }
}

impl Child {
    /// The namespace is dropped: nobody is in it and nobody holds it.
    pub(crate) fn gone(&self, name: &str, env: &Env) {
        env.children.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(parent) = self.parent.upgrade() {
            let mut children = parent.children.lock();
            // Somebody may have made a new one of the same name meanwhile.
            if children.get(name).is_some_and(|entry| entry.child.strong_count() == 0) {
                children.remove(name);
            }
        }
    }
}

/// Where a client may go that asks for a namespace.
pub(crate) enum Resolved {
    Here(Arc<Nsp>),
    /// Nowhere; this is what it is told.
    Nowhere(&'static str),
    /// The application has been asked.
    Asked(Asking),
}

/// Asks the application about a name.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Arc<Nsp>, &'static str>> + Send>>;

impl Hub {
    /// Finds out which namespace a client means. The application's code may be called.
    pub(crate) fn resolve(&self, name: &str, auth: Option<&Payload<'_>>) -> Resolved {
        let names = self.names.read();
        if let Some(nsp) = names.fixed.get(name) {
            return Resolved::Here(Arc::clone(nsp));
        }
        for (index, parent) in names.parents.iter().enumerate() {
            if let Rule::Allowed(_) = parent.rule {
                // What is left is asked in order, and the first predicate may take its time.
                let left: Vec<_> = names.parents.iter().skip(index).cloned().collect();
                drop(names);
                let empty = || Payload::from(Value::Map(Map::new()));
                let auth = auth.map_or_else(empty, |auth| auth.clone().into_owned());
                return Resolved::Asked(Box::pin(ask(left, name.to_owned(), auth)));
            }
            if let Some(parts) = parent.rule.parts(name) {
                let parent = Arc::clone(parent);
                drop(names);
                return parent.child(name, parts).map_or(Resolved::Nowhere(TOO_MANY_NAMESPACES), Resolved::Here);
            }
        }
        Resolved::Nowhere(INVALID_NAMESPACE)
    }

    /// The namespace of this name. One that matches a pattern is made.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Nsp>> {
        let parents = {
            let names = self.names.read();
            if let Some(nsp) = names.fixed.get(name) {
                return Some(Arc::clone(nsp));
            }
            names.parents.clone()
        };
        let here = |parent: &Arc<Parent>| parent.existing(name);
        let made = |parent: &Arc<Parent>| parent.child(name, parent.rule.parts(name)?);
        parents.iter().find_map(here).or_else(|| parents.iter().find_map(made))
    }
}

/// Each client is asked about, whether the namespace exists or not: its `auth` is its own.
async fn ask(parents: Vec<Arc<Parent>>, name: String, auth: Payload<'static>) -> Result<Arc<Nsp>, &'static str> {
    for parent in &parents {
        let parts = match &parent.rule {
            Rule::Matching(_) => parent.rule.parts(&name),
            Rule::Allowed(predicate) => match predicate(&name, &auth) {
                Some(allowed) => allowed.await.then(NameParts::default),
                None => None,
            },
        };
        if let Some(parts) = parts {
            return parent.child(&name, parts).ok_or(TOO_MANY_NAMESPACES);
        }
    }
    Err(INVALID_NAMESPACE)
}

/// A dynamic namespace of a running server: all the namespaces that came from one pattern. Cheap to clone.
///
/// What it sends reaches the sockets of all its children that exist. Node: `ParentNamespace`.
#[derive(Clone)]
pub struct ParentNamespace(Arc<Parent>);

impl ParentNamespace {
    pub(crate) fn new(parent: Arc<Parent>) -> Self {
        Self(parent)
    }

    /// The pattern, or the name that was given to a predicate.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The namespaces that exist, in no particular order. Node: `children`.
    pub fn children(&self) -> Vec<NamespaceHandle> {
        self.0.all().into_iter().map(NamespaceHandle::new).collect()
    }

    /// The namespace of this name, if it exists.
    pub fn child(&self, name: &str) -> Option<NamespaceHandle> {
        self.0.existing(name).map(NamespaceHandle::new)
    }

    /// Everybody in all children that exist, to be narrowed down.
    pub fn broadcast(&self) -> Operators {
        Operators::over(self.0.all().into())
    }
}

crate::nsp::starts_operators! {
    ParentNamespace: "everybody in all namespaces that came from one pattern";
}

impl fmt::Debug for ParentNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentNamespace").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// What stands in the place of `{id}` in the name of a dynamic namespace, as a `T`.
///
/// A struct or map takes the parts by name, a tuple in order, anything else the first. Named groups of a regular expression
/// are parts too. What does not fit refuses the client in middleware and connect handlers, and rejects the event elsewhere.
///
/// ```
/// use socketio::{Namespace, NameParams, Socket};
///
/// let project = Namespace::pattern("/project/{id}").on_connect(async |socket: Socket, NameParams(id): NameParams<u64>| {
///     socket.emit("welcome", id);
/// });
/// # let _ = project;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameParams<T>(pub T);

impl<Cx: SocketContext, T: DeserializeOwned> FromEvent<Cx> for NameParams<T> {
    fn from_event(cx: &mut Cx, _: &Args<'_>) -> Result<Self, Rejection> {
        let child = cx.socket().0.nsp.child.as_deref();
        let parts = child.map(|child| &child.parts[..]).unwrap_or_default();
        let pairs = parts.iter().map(|(name, value)| ((**name).into(), (**value).into()));
        Ok(Self(crate::pairs::from_pairs(pairs)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_parts_of_a_name() {
        check("/project/{id}", "/project/7", Some("id=7"));
        check("/project/{id}", "/project/", None);
        check("/project/{id}", "/project/7/x", None);
        check("/project/{id}", "/x/project/7", None);
        check("/{a}/{b}", "/1/2", Some("a=1 b=2"));
        check("/room-{no}", "/room-ä", Some("no=ä"));
        check("/files/{*path}", "/files/a/b", Some("path=a/b"));
        check("/a.b", "/a.b", Some(""));
        check("/a.b", "/aXb", None);

        #[track_caller]
        fn check(pattern: &str, name: &str, want: Option<&str>) {
            let parts = Rule::pattern(pattern).unwrap().parts(name);
            let parts = parts.map(|parts| parts.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "));
            assert_eq!(parts.as_deref(), want, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_refused() {
        for pattern in ["/{", "/{}", "/{a b}", "/{a}/{a}", "/{*}"] {
            assert!(Rule::pattern(pattern).is_err(), "{pattern}");
        }
        assert!(Rule::regex("(").is_err());
    }
}
