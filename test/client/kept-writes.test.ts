/** What is kept of closed files on this machine: which bytes, for how long, and into which files they go later. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import type { ChunkWriter } from '../../src/client/chunk-writer.js';
import type { CommitArgs } from '../../src/client/commit-message.js';
import { commitKept } from '../../src/client/kept-commits.js';
import { type InodeState, KEPT_BEFORE, KeptWrites, type LeftWrite } from '../../src/client/kept-writes.js';
import { LostAndFound } from '../../src/client/lost-and-found.js';
import { openMountDatabase } from '../../src/client/mount-database.js';
import { PendingChunk } from '../../src/client/pending-chunk.js';
import { PendingFile } from '../../src/client/pending-file.js';
import { recoverWrites } from '../../src/client/recovery.js';
import type { Attr } from '../../src/proto/attr.js';
import { FsError } from '../../src/proto/errno.js';
import { asIno } from '../../src/proto/ids.js';

setLogLevel('none');

const INO = asIno(7);
const at = (sec: number) => ({ sec, nsec: 0 });
const state = (version: number, sec: number): InodeState => ({ version, ctime: at(sec) });

class Rig {
  readonly dir: string;
  readonly db: ReturnType<typeof openMountDatabase>;
  readonly file = new PendingFile(INO);
  /** What the journal and the leases say. */
  unanswered = 0;
  term = 1;
  readonly kept: KeptWrites;
  readonly later: (() => void)[] = [];
  #second = 100;

  constructor(t: Test) {
    this.dir = t.testdir();
    this.db = openMountDatabase(this.dir);
    t.teardown(() => this.db.close());
    this.kept = new KeptWrites(this.db, {
      later: (run) => this.later.push(run),
      unanswered: () => this.unanswered,
      term: () => this.term,
    });
  }

  /** Bytes come into a chunk of their own. */
  write(text: string, offset: number): PendingChunk {
    const chunk = new PendingChunk(Buffer.alloc(100));
    chunk.append(this.file, offset, Buffer.from(text), at(++this.#second));
    return chunk;
  }

  /** The chunk is committed; in the journal as this entry, or at the server. */
  committed(chunk: PendingChunk, entry: number): void {
    this.unanswered = entry;
    chunk.state = 'settled';
    this.file.chunkSettled(chunk);
    this.kept.committed(chunk);
  }

  answered(entry: number): void {
    if (this.unanswered <= entry) this.unanswered = 0;
    this.kept.answered(entry);
  }

  /** What another daemon finds. */
  get left(): LeftWrite[] {
    return new KeptWrites(this.db, KEPT_BEFORE).leftovers();
  }

  get text(): string {
    return this.left.map(contentOf).join('; ');
  }
}

function contentOf({ pieces }: LeftWrite): string {
  const content = Buffer.alloc(40);
  for (const { offset, bytes } of pieces) bytes.copy(content, offset);
  return content.toString('latin1').replace(/\0+$/, '').replaceAll('\0', '.');
}

t.test('bytes stay until the server has answered for the commit that was journalled', async (t) => {
  const rig = new Rig(t);
  const first = rig.write('first', 0);
  t.ok(rig.kept.keep(rig.file, state(1, 1)));
  t.equal(rig.text, 'first');
  rig.committed(first, 5);
  t.equal(rig.text, 'first', 'committed, and not answered');
  const second = rig.write('2nd', 5);
  t.ok(rig.kept.keep(rig.file, state(2, 2)));
  t.equal(rig.text, 'first2nd', 'what is written meanwhile is another part');
  t.strictSame(rig.left[0]?.mtime, at(102));
  rig.answered(4);
  t.equal(rig.text, 'first2nd');
  rig.answered(5);
  t.equal(rig.text, '.....2nd');
  rig.committed(second, 0);
  t.equal(rig.text, '', 'committed at the server at once');
});

t.test('a cut reaches what was committed in the journal, and the file keeps its time', async (t) => {
  const rig = new Rig(t);
  const chunk = rig.write('content', 0);
  t.ok(rig.kept.keep(rig.file, state(1, 1)));
  rig.committed(chunk, 3);
  rig.file.truncate(4);
  rig.kept.changed(rig.file, 4);
  t.equal(rig.text, 'cont');
  t.equal(rig.left[0]?.mtime, undefined, 'it is the journal that sets it');
});

t.test('what was journalled and not kept makes a close wait', async (t) => {
  const rig = new Rig(t);
  rig.committed(rig.write('unclosed', 0), 3);
  rig.write('more', 8);
  t.notOk(rig.kept.keep(rig.file, state(2, 2)));
  rig.answered(3);
  t.ok(rig.kept.keep(rig.file, state(2, 2)));
  rig.committed(rig.write('again', 12), 9);
  t.strictSame(rig.kept.sessionLost(), [INO], 'and is said when it goes with the session');
});

t.test('of a refused commit the bytes are put elsewhere before they go', async (t) => {
  const rig = new Rig(t);
  const chunk = rig.write('mine', 0);
  t.ok(rig.kept.keep(rig.file, state(1, 1)));
  rig.committed(chunk, 3);
  const elsewhere: string[] = [];
  rig.kept.refused(INO, 3, (write) => elsewhere.push(`${contentOf(write)}, kept still: ${rig.text}`));
  t.strictSame(elsewhere, ['mine, kept still: mine']);
  t.equal(rig.text, '');
});

t.test('once its lease may have ended, a commit says in which state the file has to be', async (t) => {
  const rig = new Rig(t);
  const chunk = rig.write('mine', 0);
  t.ok(rig.kept.keep(rig.file, state(4, 4)));
  t.equal(rig.kept.since(INO), undefined);
  rig.kept.changedThere([{ ino: INO, ...state(6, 6) }]);
  rig.term = 2;
  t.strictSame(rig.kept.since(INO), state(6, 6));
  rig.kept.changedThere([{ ino: INO, ...state(8, 8) }]);
  t.strictSame(rig.kept.since(INO), state(6, 6), 'others may have made 7');
  rig.kept.changedThere([{ ino: INO, ...state(7, 7) }]);
  t.strictSame(rig.kept.since(INO), state(7, 7));
  const elsewhere: string[] = [];
  rig.kept.overtaken(INO, (write) => elsewhere.push(contentOf(write)));
  t.strictSame(elsewhere, ['mine']);
  t.equal(rig.text, '');
  t.strictSame(rig.kept.since(INO), state(7, 7), 'and so for what is pending still');
  t.notOk(rig.kept.keep(rig.file, state(7, 7)));
  rig.committed(chunk, 0);
  t.equal(rig.kept.since(INO), undefined);
});

/** Writes what was left to a file that is in this state by now; what was written, and what is in lost+found. */
async function recovered(rig: Rig, now: InodeState | undefined, isAlone = false): Promise<string[]> {
  const written: string[] = [];
  const writer: Pick<ChunkWriter, 'write' | 'flush'> = {
    write: (_file, bytes) => {
      written.push(`into the file: ${Buffer.from(bytes)}`);
      return bytes.length;
    },
    flush: async () => {},
  };
  const getattr = async (): Promise<Attr> => {
    if (now === undefined) throw new FsError('ENOENT', 'getattr');
    return { ino: INO, mtime: at(1), ...now } as Attr;
  };
  const kept = new KeptWrites(rig.db, KEPT_BEFORE);
  await recoverWrites({ kept, writer, lost: new LostAndFound(rig.dir), getattr, isAlone });
  t.strictSame(kept.leftovers(), [], 'nothing is left over');
  const names = readdirSync(rig.dir).includes('lost+found') ? readdirSync(join(rig.dir, 'lost+found')) : [];
  const lost = names.filter((name) => name.endsWith('inode-7'));
  return [
    ...written,
    ...lost.map((name) => `lost+found: ${readFileSync(join(rig.dir, 'lost+found', name), 'utf8')}`),
  ];
}

t.test('what was left goes into the file as it was left, and into no other', async (t) => {
  const left = (t: Test): Rig => {
    const rig = new Rig(t);
    rig.write('mine', 0);
    rig.kept.keep(rig.file, state(4, 4));
    return rig;
  };
  const into = ['into the file: mine'];
  const lost = ['lost+found: mine'];
  t.test('the same', async (t) => t.strictSame(await recovered(left(t), state(4, 4)), into));
  t.test('another version', async (t) => t.strictSame(await recovered(left(t), state(5, 4)), lost));
  t.test('the same version, made by others', async (t) => {
    t.strictSame(await recovered(left(t), state(4, 5)), lost);
  });
  t.test('gone', async (t) => t.strictSame(await recovered(left(t), undefined), lost));
  t.test('nobody else can have been there', async (t) => {
    t.strictSame(await recovered(left(t), state(4, 5), true), into);
  });
  t.test('of a leasefs that kept no time of change', async (t) => {
    const rig = left(t);
    rig.db.run('UPDATE written SET ctime_sec = NULL, ctime_nsec = NULL');
    t.strictSame(await recovered(rig, state(4, 4)), lost);
  });
});
t.test('bytes far out in a file need no memory for what is before them', (t) => {
  const dir = t.testdir();
  const offset = 2 ** 36;
  const pieces = [{ offset, bytes: Buffer.from('far out') }];
  const common = { ids: [1], version: 1, ctime: undefined, mtime: undefined, clearPrivileges: false };
  new LostAndFound(dir).written({ ...common, ino: INO, pieces }, 'a reason');
  const found = join(dir, 'lost+found');
  const name = readdirSync(found).find((each) => each.endsWith(`inode-${INO}`)) ?? 'none';
  t.equal(statSync(join(found, name)).size, offset + 7);
  t.end();
});

t.test('what this mount changes at the server by other means is not taken for others’ doing', async (t) => {
  const rig = new Rig(t);
  rig.write('closed', 0);
  rig.kept.keep(rig.file, state(1, 1));
  rig.term++;
  const sinces: unknown[] = [];
  const file = { ino: INO, extents: [], minSize: 0, mtime: at(1), clearPrivileges: false };
  const committing = {
    kept: rig.kept,
    lost: new LostAndFound(rig.dir),
    commit: async (args: CommitArgs) => {
      sinces.push(args.files[0]?.since);
      return { missing: [], attrs: [] };
    },
    // A rename was on its way.
    untilQuiet: async () => rig.kept.changedThere([{ ino: INO, ...state(2, 5) }]),
    onOvertaken: () => t.fail('it is not'),
  };
  await commitKept(committing, { chunks: [], files: [file], durable: false });
  t.strictSame(sinces, [state(2, 5)]);
});

t.test('what nobody can reach any more is deleted later, many files at once', async (t) => {
  const rig = new Rig(t);
  rig.write('mine', 0);
  t.ok(rig.kept.keep(rig.file, state(4, 4)));
  const other = new PendingFile(asIno(INO + 1));
  const chunk = new PendingChunk(Buffer.alloc(100));
  chunk.append(other, 0, Buffer.from('other'), at(50));
  t.ok(rig.kept.keep(other, state(4, 4)));
  for (const file of [rig.file, other]) {
    file.truncate(0);
    rig.kept.changed(file, 0);
    t.notOk(rig.kept.holds(file));
  }
  t.equal(rig.text, 'mine; other', 'it is still there');
  t.equal(rig.later.length, 1);
  rig.later[0]?.();
  t.equal(rig.text, '');
  rig.kept.tidy();
});

t.test('a state that was not written down with its entry is not the state', async (t) => {
  const rig = new Rig(t);
  rig.write('mine', 0);
  t.ok(rig.kept.keep(rig.file, state(4, 4)));
  const next = { ino: INO, nlink: 1, ...state(5, 5) };
  const failed = new Error('the disk is full');
  t.throws(
    () =>
      rig.db.transaction(() => {
        rig.kept.versions([next])?.write?.();
        throw failed;
      }),
    failed,
  );
  t.strictSame(
    [rig.left[0]?.version, rig.kept.versions([next]) !== undefined],
    [4, true],
    'it can follow yet',
  );
  const removedThere = { ...next, nlink: 0 };
  rig.kept.changedThere([removedThere]);
  t.strictSame([rig.left[0]?.version, rig.kept.versions([next])], [5, undefined]);
  // Without a name, and this mount's alone: nobody will look for it.
  const removed = rig.kept.versions([{ ino: INO, ...state(6, 6), nlink: 0 }]);
  t.equal(removed?.write, undefined);
  removed?.written();
  rig.term = 2;
  t.strictSame([rig.left[0]?.version, rig.kept.since(INO)], [5, state(6, 6)]);
});
