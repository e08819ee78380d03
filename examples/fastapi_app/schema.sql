CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);

-- Whom a token means is the pair of issuer and subject. A real application adds a row
-- when a user who is signed in here connects their account there.
CREATE TABLE IF NOT EXISTS identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users,
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE IF NOT EXISTS notes (
    id TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users,
    text TEXT NOT NULL
);

-- Two users to begin with.
INSERT OR IGNORE INTO users VALUES (1, 'Alice'), (2, 'Bob');
