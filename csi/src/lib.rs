//! Storage over the Container Storage Interface. Holds nothing yet: a pod with a volume
//! that needs a driver waits for it, and validation warns of that.
