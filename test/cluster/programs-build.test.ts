/** Programs that depend on times, links and replacements being exact: make, rsync, sed -i, tail -f, find, du. */
import t, { type Test } from 'tap';
import { Cluster } from './cluster.js';
import { isInstalled, ORDINARY, type ProgramOptions, sh, startScript } from './on-mount.js';

const TIMEOUT_MS = 120_000;
t.setTimeout(3 * TIMEOUT_MS);

const onlyIf = (...programs: string[]): { skip?: string; timeout: number } => {
  const missing = programs.find((program) => !isInstalled(program));
  return { timeout: TIMEOUT_MS, ...(missing === undefined ? {} : { skip: `${missing} is not installed` }) };
};

/** Hard links, ACLs, xattrs, a file that is mostly a hole, odd names. */
const MAKE_TREE = `
mkdir -p tree/{a,b/c}; cd tree
for i in $(seq 40); do head -c $((i * 1310)) /dev/urandom > a/file-$i; done
ln a/file-1 b/hard; ln a/file-1 b/c/harder; ln -s nowhere b/dangling; printf x > $'b/odd \\n\\xff'
truncate -s 20M sparse; printf middle | dd of=sparse seek=10M bs=1 conv=notrunc status=none
setfattr -n user.colour -v blue a/file-2; setfacl -m u:1234:rw a/file-3; setfacl -d -m g:77:rx b
touch -d '2001-02-03 04:05:06.789012345' a/file-4; mkfifo b/fifo; chmod 4751 a/file-5
[ $(id -u) -ne 0 ] || { mknod b/device c 239 5; chown 1234:77 a/file-6; }
`;

const FILES = 16;
const MAKEFILE = `OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c
\t$(CC) -MMD -c -o $@ $<
-include $(OBJECTS:.o=.d)
`;

/** `here` and `there` are one directory on two mounts, `local` one on the host. */
async function programs(t: Test, here: ProgramOptions, there: ProgramOptions, local: string): Promise<void> {
  await t.test('rsync -aHAXS there and back', onlyIf('rsync', 'setfacl', 'setfattr'), async (t) => {
    await sh(MAKE_TREE, { ...here, cwd: local });
    await sh(`rsync -aHAXS ${local}/tree/ there/`, here);
    await sh(`rsync -aHAXS there/ ${local}/back/`, there);
    const compare = 'rsync -aHAXS --checksum --delete --dry-run --itemize-changes';
    t.equal(await sh(`${compare} ${local}/tree/ ${local}/back/`, here), '', 'no difference after both ways');
    t.equal(await sh(`${compare} ${local}/tree/ there/`, there), '', 'none on the mount either');
    t.ok(Number(await sh('du -k there/sparse | cut -f1', here)) < 1024, 'a hole takes no room');
  });

  await t.test('find and du agree with the host', onlyIf('rsync', 'setfacl', 'setfattr'), async (t) => {
    const list = `find . ! -type d -printf '%P %y %m %n %s %l\\n' | sort; find . -size +100k | sort`;
    t.equal(
      await sh(`cd there; ${list}`, here),
      await sh(`cd tree; ${list}`, { ...here, cwd: local }),
      'find',
    );
    const sum = 'find . -type f -print0 | du -b --files0-from=- -c | tail -1';
    t.equal(
      await sh(`cd there; ${sum}`, here),
      await sh(`cd tree; ${sum}`, { ...here, cwd: local }),
      'du -b, hard links counted once',
    );
    const [size, used] = (await sh('df --output=size,used -k . | tail -1', here))
      .trim()
      .split(/\s+/)
      .map(Number);
    t.ok(size !== undefined && used !== undefined && used > 0 && used < size, `df: ${used} of ${size} KiB`);
  });

  await t.test('make builds what is out of date, and nothing else', onlyIf('make', 'cc'), async (t) => {
    await sh(
      `mkdir src; cd src; printf '%s' "$MAKEFILE" > Makefile; echo '#define ONE 1' > one.h
      for i in $(seq ${FILES}); do printf '#include "one.h"\\nint f%d(void) { return ONE; }\\n' $i > f$i.c; done
      { for i in $(seq ${FILES}); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int n = 0;'
        for i in $(seq ${FILES}); do echo "n += f$i();"; done; echo 'printf("%d\\n", n); return 0; }'; } > main.c`,
      { ...here, env: { MAKEFILE } },
    );
    await sh('cd src; make -j4 > log', here);
    t.equal(await sh('cd src; ./program', here), `${FILES}\n`);
    t.match(await sh('cd src; make', here), 'up to date', 'a second make does nothing');
    t.match(await sh('cd src; make', there), 'up to date', 'nor does one on another mount');
    await sh(`cd src; echo 'int f7(void) { return 41; }' > f7.c`, there);
    t.equal(
      await sh('cd src; make | grep -c -- -MMD; ./program', here),
      `1\n${FILES + 40}\n`,
      'one file is compiled again',
    );
  });

  await t.test(
    'a file that is replaced is the old one or the new one, whole',
    { timeout: TIMEOUT_MS },
    async (t) => {
      await sh('seq 1 2000 > config', here);
      const reading = startScript(
        'echo begun; until [ -e done ]; do wc -l < config || echo missing; done | sort | uniq -c',
        there,
      );
      await reading.printed('begun');
      await sh(
        `for i in $(seq 10); do
        seq 1 2000 > new; mv new config; sed -i 's/^1$/1/' config; cp config saved; ln saved extra; mv -f extra config; rm saved
      done; touch done`,
        here,
      );
      const { stdout, stderr } = await reading.outcome;
      t.match(stdout, /^begun\n *\d+ 2000\n$/, stderr);
    },
  );

  await t.test('tail -f follows what another mount appends', { timeout: TIMEOUT_MS }, async (t) => {
    await sh('echo first > log', here);
    const tail = startScript('tail -f -n +1 log', there);
    await tail.printed('first');
    await sh('for i in $(seq 20); do echo line $i >> log; done; echo last >> log', here);
    const printed = await tail.printed('last');
    tail.signal('SIGTERM');
    await tail.outcome;
    t.equal(printed.trim(), await sh('cat log', there).then((text) => text.trim()));
  });
}

t.test('programs that are exact', { timeout: 3 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'build' });
  const mount = await cluster.mount();
  const timeoutMs = 80_000;
  await t.test("this user's mounts", { timeout: 2 * TIMEOUT_MS }, async (t) => {
    const here = { cwd: mount.path, timeoutMs };
    const there = { cwd: (await cluster.mount()).path, timeoutMs };
    await programs(t, here, there, cluster.scratch.directory('local'));
  });
  const asRoot = process.geteuid?.() === 0;
  const skip = asRoot ? {} : { skip: 'the tests run as an ordinary user already' };
  await t.test("an ordinary user's own mounts", { timeout: 2 * TIMEOUT_MS, ...skip }, async (t) => {
    const local = cluster.scratch.directory('local-ordinary');
    const ids = `${ORDINARY.uid}:${ORDINARY.gid}`;
    await sh(`mkdir home; chown ${ids} home ${local}`, { cwd: mount.path });
    const own = async (): Promise<ProgramOptions> => ({
      cwd: `${(await cluster.mount({ user: ORDINARY })).path}/home`,
      user: ORDINARY,
      timeoutMs,
    });
    await programs(t, await own(), await own(), local);
  });
  await cluster.untilHealthy();
});
