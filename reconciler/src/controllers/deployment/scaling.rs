//! A change of `replicas`, shared out among the ReplicaSets that have pods.

use super::Round;
use super::sets::Set;

impl Round<'_> {
    /// True if `replicas` changed since the ReplicaSets were last sized.
    pub(super) fn is_scaling(&self) -> bool {
        let replicas = self.replicas();
        let wanted = self.sets().filter(|set| set.is_wanted()).count();
        // Recreate has no shares to keep: it sizes the sets itself.
        let by_step = self.is_rolling() || wanted <= 1;
        by_step
            && self
                .sets()
                .filter(|set| set.is_wanted())
                .any(|set| set.sized_for().is_some_and(|was| was != replicas))
    }

    /// Sizes every ReplicaSet for the present `replicas`, without going on with
    /// a rollout: in the middle of one each set gets its share.
    pub(super) fn scale(&mut self) {
        let wanted = self.sets().filter(|set| set.is_wanted()).count();
        if wanted <= 1 {
            self.scale_only_set();
        } else if self.new.as_ref().is_some_and(|new| self.is_saturated(new)) {
            self.resize_new(self.replicas());
            for at in 0..self.old.len() {
                if self.old[at].is_wanted() {
                    self.resize_old(at, 0);
                }
            }
        } else if self.is_rolling() {
            self.scale_in_proportion();
        }
    }

    /// The one set with pods; without any, the new one, or the latest.
    fn scale_only_set(&mut self) {
        let replicas = self.replicas();
        if let Some(at) = self.old.iter().position(Set::is_wanted) {
            self.resize_old(at, replicas);
        } else if self.new.is_some() {
            self.resize_new(replicas);
        } else if let Some(last) = self.old.len().checked_sub(1) {
            self.resize_old(last, replicas);
        }
    }

    fn is_saturated(&self, new: &Set) -> bool {
        let available = new.replica_set.status.as_ref().and_then(|status| status.available_replicas);
        let all = Some(self.replicas());
        new.size() == self.replicas() && new.sized_for() == all && available == all
    }

    fn scale_in_proportion(&mut self) {
        let limit = if self.replicas() > 0 { self.replicas() + self.max_surge() } else { 0 };
        let total: i32 = self.sets().map(Set::size).sum();
        let to_add = limit - total;
        // The place of the new set is after the old ones.
        let places = self.old.len() + usize::from(self.new.is_some());
        let mut order: Vec<usize> =
            (0..places).filter(|at| self.at(*at).is_some_and(Set::is_wanted)).collect();
        // The largest get, or give, first; among equals the newest gets and the oldest gives.
        order.sort_by_key(|at| {
            let size = self.at(*at).map_or(0, Set::size);
            (std::cmp::Reverse(size), if to_add > 0 { places - at } else { *at })
        });
        let mut added = 0;
        let mut sizes = Vec::with_capacity(order.len());
        for at in &order {
            let Some(set) = self.at(*at) else { continue };
            let part = self.part(set, to_add, added);
            added += part;
            sizes.push(set.size() + part);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (at, size) in order.into_iter().zip(sizes) {
            if at < self.old.len() { self.resize_old(at, size) } else { self.resize_new(size) }
        }
    }

    fn at(&self, place: usize) -> Option<&Set> {
        self.old.get(place).or(self.new.as_ref())
    }

    /// How much of `to_add`, of which `added` is given already, `set` gets by its size.
    fn part(&self, set: &Set, to_add: i32, added: i32) -> i32 {
        let left = to_add - added;
        if to_add == 0 || left == 0 {
            return 0;
        }
        let fraction = if self.replicas() == 0 {
            -set.size()
        } else {
            let before = set.sized_within().filter(|before| *before > 0);
            let before = before.unwrap_or_else(|| self.status.replicas.unwrap_or(0));
            if before <= 0 {
                return 0;
            }
            let now = i64::from(self.replicas() + self.max_surge());
            let size = rounded(i64::from(set.size()) * now, i64::from(before));
            size - set.size()
        };
        if to_add > 0 { fraction.clamp(0, left) } else { fraction.clamp(left, 0) }
    }

    /// Sizes the new set and says so.
    pub(super) fn resize_new(&mut self, size: i32) {
        let (replicas, surge) = (self.replicas(), self.max_surge());
        if let Some(set) = &mut self.new {
            let said = resize(set, size, replicas, surge);
            self.tell_of_scaling(said);
        }
    }

    /// Sizes the old set at `at` and says so.
    pub(super) fn resize_old(&mut self, at: usize, size: i32) {
        let (replicas, surge) = (self.replicas(), self.max_surge());
        let said = resize(&mut self.old[at], size, replicas, surge);
        self.tell_of_scaling(said);
    }

    fn tell_of_scaling(&mut self, said: Option<String>) {
        if let Some(message) = said {
            self.outcome.note(&self.key, "ScalingReplicaSet", message);
        }
    }
}

fn resize(set: &mut Set, size: i32, replicas: i32, surge: i32) -> Option<String> {
    let before = set.size();
    set.resize(size, replicas, surge);
    let way = if size > before { "up" } else { "down" };
    (size != before).then(|| format!("Scaled {way} replica set {} from {before} to {size}", set.name()))
}

/// `a / b` to the nearest whole number; both are not negative.
fn rounded(a: i64, b: i64) -> i32 {
    i32::try_from((2 * a + b) / (2 * b)).unwrap_or(i32::MAX)
}
