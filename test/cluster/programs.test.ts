/**
 * Real programs on a mount, as root and as an ordinary user on a mount of his own: git, tar, cp, diff,
 * sqlite3, a compiler.
 */
import t, { type Test } from 'tap';
import { Cluster } from './cluster.js';
import { isInstalled, ORDINARY, type ProgramOptions, sh } from './on-mount.js';

const TIMEOUT_MS = 120_000;
t.setTimeout(2 * TIMEOUT_MS);

const GIT_ENV = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@example.org',
};

/** A tree of some hundred files with links, modes, odd names and a large one. `$0`: where. */
const MAKE_TREE = `
mkdir -p tree/{a,b/c,empty}; cd tree
for i in $(seq 80); do head -c $((i * 131 % 20000)) /dev/urandom > a/file-$i; echo "line $i" > b/c/$i.txt; done
head -c 3000000 /dev/urandom > large; : > nothing
ln -s ../a/file-1 b/link; ln -s nowhere b/dangling; ln a/file-2 b/hard
chmod 755 a/file-3; chmod 400 a/file-4; chmod 700 b/c
touch -d '2001-02-03 04:05:06.789012345' a/file-5; printf x > $'b/odd name \\n\\xff\\u20ac'
`;

async function programs(t: Test, options: ProgramOptions, local: string): Promise<void> {
  const run = (script: string): Promise<string> => sh(script, { ...options, timeoutMs: 80_000 });
  const onlyIf = (program: string): { skip?: string; timeout: number } => ({
    timeout: TIMEOUT_MS,
    ...(isInstalled(program) ? {} : { skip: `${program} is not installed` }),
  });
  await sh(MAKE_TREE, { ...options, cwd: local });

  await t.test('cp -a and diff -r find no difference', { timeout: TIMEOUT_MS }, async (t) => {
    // A directory's size and link count are the filesystem's own affair.
    const list = `{ find . ! -type d -printf '%P %M %n %s %l %T@\\n'; find . -type d -printf '%P %M %T@\\n'; } | sort`;
    t.equal(
      await run(`cp -a ${local}/tree copy; diff -r --no-dereference ${local}/tree copy && echo same`),
      'same\n',
    );
    const there = await sh(`cd tree; ${list}`, { ...options, cwd: local });
    t.equal(await run(`cd copy; ${list}`), there, 'modes, links, sizes and times are the same');
  });

  await t.test('tar in and out', onlyIf('tar'), async (t) => {
    await run(`tar -C ${local} -cf tree.tar tree; mkdir out; tar -C out -xf tree.tar`);
    t.equal(await run(`diff -r --no-dereference ${local}/tree out/tree && echo same`), 'same\n');
    t.equal(await run(`tar -cf - -C out tree | tar -tf - | wc -l`), await run('tar -tf tree.tar | wc -l'));
  });

  await t.test('git: clone, commit, gc, fsck', onlyIf('git'), async (t) => {
    await sh('git init -q -b main repo; cp -r tree/b repo/; cd repo; git add .; git commit -qm one', {
      ...options,
      cwd: local,
    });
    await run(`git clone -q ${local}/repo clone; cd clone; git fsck --strict 2>&1`);
    await run(`cd clone; for i in 1 2 3; do echo $i > new$i; git add .; git commit -qm "commit $i"; done
      git checkout -q -b side; git mv new1 moved; git commit -qm moved; git checkout -q main; git merge -q side; git gc -q`);
    t.equal(await run('cd clone; git status --porcelain; git log --oneline | wc -l'), '5\n');
    t.equal(await run('cd clone; git fsck --strict --full 2>&1; ls'), 'b\nmoved\nnew2\nnew3\n');
  });

  await t.test('sqlite3: a database stays whole', onlyIf('sqlite3'), async (t) => {
    await run(`sqlite3 db 'CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT); CREATE INDEX i ON t (text);'
      for i in $(seq 30); do echo "INSERT INTO t (text) VALUES ('row $i');"; done | sqlite3 db
      sqlite3 db "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t (text) SELECT hex(randomblob(20)) FROM n; DELETE FROM t WHERE id % 3 = 0; VACUUM;"`);
    t.equal(await run("sqlite3 db 'PRAGMA integrity_check; SELECT count(*) FROM t'"), 'ok\n13354\n');
    t.equal(
      await run(
        `sqlite3 db 'PRAGMA journal_mode = WAL' "INSERT INTO t (text) VALUES ('w')" 'PRAGMA integrity_check'`,
      ),
      'wal\nok\n',
    );
  });

  await t.test('a C program is compiled and run', onlyIf('cc'), async (t) => {
    await run(
      `printf '#include <stdio.h>\\nint main(void) { puts("hello"); return 0; }\\n' > hello.c; cc -o hello hello.c`,
    );
    t.equal(await run('./hello'), 'hello\n');
  });

  await t.test('rm -rf of all of it', { timeout: TIMEOUT_MS }, async (t) => {
    t.equal(await run('rm -rf ./*; ls -A'), '');
  });
}

t.test('programs', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'programs' });
  const mount = await cluster.mount();
  await t.test("this user's mount", { timeout: TIMEOUT_MS }, async (t) => {
    await programs(t, { cwd: mount.path, env: GIT_ENV }, cluster.scratch.directory('local'));
  });
  const asRoot = process.geteuid?.() === 0;
  const skip = asRoot ? {} : { skip: 'the tests run as an ordinary user already' };
  await t.test("an ordinary user's own mount", { timeout: TIMEOUT_MS, ...skip }, async (t) => {
    const local = cluster.scratch.directory('local-ordinary');
    const ids = `${ORDINARY.uid}:${ORDINARY.gid}`;
    await sh(`mkdir home; chown ${ids} home ${local}`, { cwd: mount.path });
    const own = await cluster.mount({ user: ORDINARY });
    await programs(t, { cwd: `${own.path}/home`, user: ORDINARY, env: GIT_ENV }, local);
  });
  await cluster.untilHealthy();
});
