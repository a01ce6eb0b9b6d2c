-- The journal as written by the code of commit 22c0f2c; text that is no UTF-8 is in X'...'.
BEGIN TRANSACTION;
CREATE TABLE facts (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    changed REAL NOT NULL,
    PRIMARY KEY (host, name)
);
INSERT INTO "facts" VALUES('hpc','accounting of slurm','yes',1700000010.0);
CREATE TABLE hosts (
    host TEXT PRIMARY KEY,
    scheduler TEXT NOT NULL,
    changed REAL NOT NULL
);
INSERT INTO "hosts" VALUES('hpc','slurm',1700000008.0);
INSERT INTO "hosts" VALUES('me@other:2222','direct',1700000009.0);
CREATE TABLE submissions (
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    digest TEXT NOT NULL,
    scheduler TEXT NOT NULL,
    directory TEXT NOT NULL,
    name TEXT,
    job_id TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    exit_code INTEGER,
    nodes TEXT,
    stdout_path TEXT,
    stderr_path TEXT,
    opened REAL NOT NULL,
    submitted REAL,
    changed REAL NOT NULL,
    PRIMARY KEY (host, token)
);
INSERT INTO "submissions" VALUES('hpc','t1','d1','slurm','/home/u/runs/relax-7','relax.sh','4711','completed',NULL,0,'node1,node2','/home/u/runs/relax-7/slurm-4711.out',NULL,1700000000.0,1700000002.5,1700000002.0);
INSERT INTO "submissions" VALUES('hpc','t2','d2','slurm',X'2F686F6D652F752F72FF','freq.sh','4712','running',NULL,NULL,'node3',NULL,NULL,1700000003.0,NULL,1700000004.0);
INSERT INTO "submissions" VALUES('hpc','open','d3','slurm','/home/u','lost.sh',NULL,'new',NULL,NULL,NULL,NULL,NULL,1700000005.0,NULL,1700000005.0);
INSERT INTO "submissions" VALUES('me@other:2222','t1','d4','direct','/home/me','job','1','failed','exit code 3',3,NULL,NULL,NULL,1700000006.0,NULL,1700000007.0);
CREATE INDEX by_job ON submissions (host, job_id);
COMMIT;
PRAGMA user_version=1;
