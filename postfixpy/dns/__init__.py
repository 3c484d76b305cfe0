"""DNS as Postfix's client sees it: lookups with its resolver options, failure classes and texts."""
