/**
 * The fuse-native driver under real programs: the toy filesystem, served by a process of its own, and every
 * touch of the mount made by child processes under a deadline. Each limit that native-notes/fuse-native.md
 * states has its case here, so that a limit that goes away is noticed.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const DAEMON = fileURLToPath(new URL('./fuse-native-daemon.js', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'leasefs-native-'));
t.teardown(() => rmdirSync(scratch, { maxRetries: 0 }));

class Mounted {
  readonly directory: string;
  readonly #child;
  readonly #lines: string[] = [];
  #wake: () => void = () => {};
  stderr = '';

  constructor(name: string, args: readonly string[] = []) {
    this.directory = join(scratch, name);
    mkdirSync(this.directory);
    this.#child = spawn(process.execPath, [DAEMON, this.directory, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    createInterface(this.#child.stdout).on('line', (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.#child.once('close', () => this.#wake());
  }

  say(command: string): void {
    this.#child.stdin.write(`${command}\n`);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** The daemon's next line; `gone` once it has ended. */
  async line(): Promise<string> {
    const deadlineMs = performance.now() + 10_000;
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return line;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) return 'gone';
      if (performance.now() > deadlineMs) throw new Error(`the daemon says nothing: ${this.stderr}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 100);
      });
    }
  }

  /** Runs a script in the mount; what it printed, errors included. */
  sh(script: string): string {
    return execFileSync('bash', ['-c', `cd "$0" && { ${script}\n}`, this.directory], {
      encoding: 'utf8',
      timeout: 10_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  node(script: string): string {
    return execFileSync(process.execPath, ['-e', script], {
      cwd: scratch,
      encoding: 'utf8',
      timeout: 10_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, DIR: this.directory },
    });
  }

  async end(): Promise<void> {
    try {
      execFileSync('umount', ['-l', this.directory], { stdio: 'ignore', timeout: 10_000 });
    } catch {
      try {
        execFileSync('fusermount3', ['-uz', this.directory], { stdio: 'ignore', timeout: 10_000 });
      } catch {
        // It was unmounted before.
      }
    }
    while ((await this.line()) !== 'gone');
    rmdirSync(this.directory);
  }
}

async function mounted(t: Tap, name: string, args: readonly string[] = []): Promise<Mounted> {
  const mount = new Mounted(name, args);
  t.teardown(() => mount.end());
  t.equal(await mount.line(), 'ready', mount.stderr);
  return mount;
}
type Tap = Pick<typeof t, 'teardown' | 'equal'>;

for (const later of [false, true]) {
  const args = later ? ['--later'] : [];
  t.test(`programs work when operations answer ${later ? 'later' : 'at once'}`, async (t) => {
    const mount = await mounted(t, `programs-${later}`, args);
    t.equal(mount.sh('echo hello > f; cat f; stat -c "%s %h %F" f'), 'hello\n6 1 regular file\n');
    t.equal(mount.sh('mkdir d; mv f d/g; ln d/g d/h; stat -c %h d/g d/h; ls d'), '2\n2\ng\nh\n');
    t.equal(mount.sh('[ d/g -ef d/h ] && echo same'), 'same\n', 'hard links are one file (use_ino)');
    t.equal(mount.sh('ln -s g d/s; readlink d/s; cat d/s; find d -type l'), 'g\nhello\nd/s\n');
    t.equal(mount.sh('mkfifo p; test -p p && find . -type p; rm p'), './p\n');
    t.equal(mount.sh('chmod 4751 d/g; stat -c %a d/g; chmod 600 d/g; stat -c %a d/g'), '4751\n600\n');
    if (process.geteuid?.() === 0)
      t.equal(mount.sh('chown 12:34 d/g; chgrp 5 d/g; stat -c %u:%g d/g'), '12:5\n');
    t.equal(mount.sh('truncate -s 3 d/g; cat d/g; truncate -s 5 d/g; stat -c %s d/g'), 'hel5\n');
    t.equal(mount.sh('echo more >> d/g; od -An -c d/g | tr -d " \\n"'), 'hel\\0\\0more\\n');
    t.equal(mount.sh('echo new > d/g; cat d/g'), 'new\n', 'O_TRUNC');
    t.equal(mount.sh('rm -r d; ls'), 'release\nwait\n');
    t.equal(
      mount.sh(
        'head -c 3000000 /dev/urandom > a; cp a b; cmp a b && dd if=a bs=4k 2>/dev/null | cmp - b && echo equal; rm a b',
      ),
      'equal\n',
    );
    t.match(mount.sh('mount | grep "$0" || mount | grep native'), /fuse\.leasefs/);
    t.match(mount.sh('df --output=fstype,size .'), /fuse\.leasefs +4000000/);
    mount.say('references');
    t.equal(await mount.line(), 'references 0', 'every reference was given back');
  });
}

t.test('an open file that lost its name goes on, and no other name appears', async (t) => {
  const mount = await mounted(t, 'nameless');
  const output = mount.node(`
    const fs = require('node:fs'), path = require('node:path');
    const at = (name) => path.join(process.env.DIR, name);
    fs.mkdirSync(at('d'));
    const fd = fs.openSync(at('d/f'), 'w+');
    fs.writeSync(fd, 'before');
    fs.unlinkSync(at('d/f'));
    console.log(fs.readdirSync(at('d')).length);
    fs.writeSync(fd, ' after');
    const buffer = Buffer.alloc(20);
    console.log(buffer.toString('latin1', 0, fs.readSync(fd, buffer, 0, 20, 0)));
    fs.ftruncateSync(fd, 3);
    fs.fchmodSync(fd, 0o600);
    fs.fsyncSync(fd);
    const { nlink, size } = fs.fstatSync(fd);
    console.log(nlink, size);
    fs.writeFileSync(at('d/g'), 'old');
    const old = fs.openSync(at('d/g'), 'r');
    fs.writeFileSync(at('d/new'), 'new');
    fs.renameSync(at('d/new'), at('d/g'));
    console.log(fs.readFileSync(at('d/g'), 'latin1'), fs.readFileSync(old, 'latin1'), fs.readdirSync(at('d')).join());
    fs.closeSync(old); fs.closeSync(fd);
    fs.unlinkSync(at('d/g'));
    fs.rmdirSync(at('d'));
    console.log(fs.readdirSync(process.env.DIR).join());
  `);
  t.equal(output, '0\nbefore after\n0 3\nnew old g\nrelease,wait\n');
  mount.say('references');
  t.equal(await mount.line(), 'references 0');
});

t.test('a file that is only called like a hidden one keeps its name', async (t) => {
  const mount = await mounted(t, 'hidden-name');
  const name = '.fuse_hidden0000000200000001';
  t.equal(mount.sh(`echo x > f; mv f ${name}; ls -A; cat ${name}`), `${name}\nrelease\nwait\nx\n`);
});

t.test('times are set to the millisecond, the mtime too', async (t) => {
  const mount = await mounted(t, 'times');
  const times = mount.node(`
    const fs = require('node:fs'), f = process.env.DIR + '/release';
    fs.utimesSync(f, 1000000000.25, 1234567890.5);
    const s = fs.statSync(f, { bigint: true });
    console.log(String(s.atimeNs), String(s.mtimeNs));
  `);
  t.match(times, /^1000000000250000000 1234567890500000000/);
  t.equal(
    mount.sh('touch -d @5 release; touch -m -d @9 release; touch -a -d @9 release; stat -c "%X %Y" release'),
    '5 5\n',
    'limit: one time alone is not handed on by libfuse',
  );
  t.equal(
    mount.sh('touch -d @-5.5 release; stat -c %Y release'),
    '0\n',
    'limit: times before 1970 show as 1970',
  );
});

t.test('names that are not UTF-8 are refused, others are any bytes', async (t) => {
  const mount = await mounted(t, 'names');
  t.equal(mount.sh(`n=$'\\x01 \\n\\u20ac \\\\'; echo x > "$n"; cat "$n"; rm "$n"; ls | wc -l`), 'x\n2\n');
  t.match(mount.sh(`echo x > $'\\xff' || true; touch $'a\\xfe' || true; ls | wc -l`), /2\n$/);
  t.match(
    mount.sh(`{ mkdir $'\\xff' || true; ln -s $'\\xff' s || true; } 2>&1`),
    /multibyte.*\n.*multibyte/,
    'EILSEQ',
  );
});

t.test('a write to a descriptor opened with O_SYNC is synced before it returns', async (t) => {
  const mount = await mounted(t, 'sync');
  const syncs = async (): Promise<string> => {
    mount.say('syncs');
    return await mount.line();
  };
  mount.sh('dd if=/dev/zero of=release bs=1k count=3 conv=notrunc 2>/dev/null');
  t.equal(await syncs(), 'syncs 0');
  mount.sh('dd if=/dev/zero of=release bs=1k count=3 oflag=sync conv=notrunc 2>/dev/null');
  t.equal(await syncs(), 'syncs 3');
  mount.sh('dd if=/dev/zero of=release bs=1k count=2 oflag=dsync conv=notrunc,fsync 2>/dev/null');
  t.equal(await syncs(), 'syncs 6');
  mount.sh('dd if=/dev/zero of=created bs=1k count=2 oflag=sync 2>/dev/null');
  t.equal(
    await syncs(),
    'syncs 6',
    'limit: the flags of the descriptor that creates a file are not handed over',
  );
});

t.test('extended attributes: values of any size, empty ones, lists, errors', async (t) => {
  const mount = await mounted(t, 'xattrs');
  t.equal(
    mount.sh(
      `setfattr -n user.a -v hello release; setfattr -n user.e -v "" release
       setfattr -n user.big -v 0x$(printf '%0120000d' 7) release
       getfattr -n user.a --only-values release; echo; getfattr -n user.e --only-values release
       getfattr -n user.big --only-values release | wc -c; getfattr release | grep -c user
       setfattr -x user.a release; getfattr -n user.a release 2>&1 | tail -1`,
    ),
    'hello\n60000\n3\nrelease: user.a: No such attribute\n',
  );
});

t.test('a created file is exclusive, a descriptor number names one file', async (t) => {
  const mount = await mounted(t, 'create');
  const output = mount.node(`
    const fs = require('node:fs'), d = process.env.DIR;
    const fds = [...Array(50).keys()].map((i) => fs.openSync(d + '/f' + i, 'wx', 0o444));
    fds.forEach((fd, i) => fs.writeSync(fd, 'content ' + i));
    fds.forEach((fd, i) => { if (fs.fstatSync(fd).size !== ('content ' + i).length) console.log('wrong', i); });
    fds.forEach((fd) => fs.closeSync(fd));
    for (let i = 0; i < 50; i++) if (fs.readFileSync(d + '/f' + i, 'latin1') !== 'content ' + i) console.log('wrong', i);
    try { fs.openSync(d + '/f1', 'wx'); } catch (error) { console.log(error.code); }
  `);
  t.equal(output, 'EEXIST\n');
});

t.test('a large directory is listed in full', async (t) => {
  const mount = await mounted(t, 'large');
  t.equal(
    mount.sh('mkdir d; cd d; seq 3000 | xargs touch; ls | wc -l; ls -U | sort | uniq | wc -l'),
    '3000\n3000\n',
  );
});

t.test('programs run from it (private mappings)', async (t) => {
  const mount = await mounted(t, 'mapping');
  t.equal(mount.sh('cp /bin/echo program; ./program hello'), 'hello\n');
});

t.test('unmounting from outside ends the driver', async (t) => {
  const mount = await mounted(t, 'outside');
  if (process.geteuid?.() === 0) execFileSync('umount', [mount.directory]);
  else execFileSync('fusermount3', ['-u', mount.directory]);
  t.equal(await mount.line(), 'ended');
  t.equal(await mount.line(), 'gone');
});

t.test('a busy mount is unmounted only with force, and ends when its last file is closed', async (t) => {
  const mount = await mounted(t, 'busy');
  const holder = spawn('bash', ['-c', 'exec 5< release; read line'], {
    cwd: mount.directory,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  mount.say('unmount');
  t.match(await mount.line(), /^error busy/);
  mount.say('force');
  t.equal(await mount.line(), 'unmounted');
  mount.say('references');
  t.match(await mount.line(), /^references/, 'still serving what is open');
  holder.stdin.end();
  t.equal(await mount.line(), 'ended');
});

t.test('a mountpoint in use, a missing one, an option that libfuse does not know', async (t) => {
  const mount = await mounted(t, 'first');
  const error = (args: readonly string[]): string => {
    try {
      execFileSync(process.execPath, [DAEMON, ...args], { encoding: 'utf8', timeout: 10_000, stdio: 'pipe' });
      return 'none';
    } catch (error) {
      return error instanceof Error && 'stdout' in error ? String(error.stdout) : String(error);
    }
  };
  t.match(error([mount.directory]), /^error alreadyMounted/);
  t.match(error([join(scratch, 'nowhere')]), /^error missing/);
  t.match(error([scratch]), /^error notEmpty/);
  mkdirSync(join(scratch, 'free'));
  t.teardown(() => rmdirSync(join(scratch, 'free')));
  t.match(error([join(scratch, 'free'), '-o', 'lazytime']), /^error badOption/);
  t.match(error([join(scratch, 'free'), '--source', 'x'.repeat(1000)]), /^error badOption/);
  t.notMatch(readFileSync('/proc/self/mounts', 'utf8'), `${scratch}/free`);
});

t.test('without libfuse the message says what to install', async (t) => {
  // A loader's view without the library: the package's directory, with an addon that needs what is not there.
  const script = `
    const Module = require('node:module');
    const load = Module._extensions['.node'];
    Module._extensions['.node'] = () => {
      throw new Error('libfuse.so.2: cannot open shared object file: No such file or directory');
    };
    import(process.env.BINDING).then(({ loadNativeBinding }) => {
      try { loadNativeBinding(); console.log('loaded'); } catch (error) { console.log(error.message); }
    });
  `;
  const output = execFileSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    env: {
      ...process.env,
      BINDING: new URL('../../src/fuse/fuse-native-binding.js', import.meta.url).href,
    },
  });
  t.match(output, /apt-get install libfuse2/);
});
