//! Storage over the Container Storage Interface. Holds nothing yet: volumes that need a
//! driver are refused by validation until it does.
