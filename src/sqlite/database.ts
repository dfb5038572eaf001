/**
 * The only place that opens a SQLite database, and the only importer of better-sqlite3.
 *
 * Every database of leasefs is opened the same way: WAL, one connection, checked by application id and format
 * version before a byte of it is written. Commits are `synchronous = NORMAL` (survive a killed process, in
 * order) until `setDurable(true)` asks for FULL (survive a power cut, and everything earlier with them).
 * Foreign errors become FsError here; wrong SQL or a violated constraint is a bug and becomes InvariantError.
 *
 * A new database is built beside its place and linked there when complete, so a crash leaves either no
 * database or a whole one, and whoever finds a file there finds its identity in the file's header.
 *
 * INVARIANT: at most one Database per file in a process. (Closing any descriptor of a file drops all POSIX
 * locks that the process holds on it, so even looking at the header would unlock the other one.)
 *
 * It does not know any schema. **Source:** native-notes/sqlite.md.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  realpathSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { assert, InvariantError, present } from '../base/assert.js';
import { type ErrnoName, FsError } from '../proto/errno.js';

/** What a column holds. Numbers must be safe integers or doubles; blobs come back as Buffer. */
export type SqlValue = number | string | Uint8Array | null;

export interface Statement<Row> {
  /** The first row, or undefined. */
  get(...params: SqlValue[]): Row | undefined;
  all(...params: SqlValue[]): Row[];
  /** Rows one by one; the database takes no other statement until the loop has ended. */
  iterate(...params: SqlValue[]): IterableIterator<Row>;
  run(...params: SqlValue[]): { changes: number };
}

/** One open database. **Errors** of every method: ENOSPC (disk full), EIO, EROFS, ENOMEM; EIO when closed. */
export interface Database {
  readonly path: string;
  /** Whether a transaction is open. */
  readonly inTransaction: boolean;
  readonly isOpen: boolean;
  run(sql: string, ...params: SqlValue[]): { changes: number };
  /** Several statements without parameters or results, for schemas. */
  exec(sql: string): void;
  /** Prepared once per SQL text and kept; SQL texts are constants of the program, values are parameters. */
  prepare<Row>(sql: string): Statement<Row>;
  /**
   * Runs `body` between BEGIN IMMEDIATE and COMMIT; rolls back when it throws, or when it returns a promise,
   * which is refused. Does not nest.
   */
  transaction<T>(body: () => T): T;
  /**
   * From the next transaction on: whether COMMIT returns only when the transaction, and with it every earlier
   * one, is on disk. A transaction that changes nothing syncs nothing.
   */
  setDurable(durable: boolean): void;
  /** Idempotent. */
  close(): void;
}

export interface DatabaseOptions {
  /** A file in an existing directory, or ':memory:'. */
  readonly path: string;
  /** What kind of database this is (PRAGMA application_id): a positive 32-bit number. */
  readonly applicationId: number;
  /** The newest format this program knows (PRAGMA user_version), >= 1. */
  readonly formatVersion: number;
  /** Brings the schema from `fromVersion` (0: nothing there) to `formatVersion`, inside a transaction. */
  readonly migrate: (db: Database, fromVersion: number) => void;
  /** Whether to make the database when there is none. */
  readonly create: boolean;
  /** Hold the file's lock until close, so that no second process opens it. Default: true. */
  readonly exclusive?: boolean;
  /** Page cache, in bytes. Default: 16 MiB. */
  readonly cacheBytes?: number;
  /** Of a database that is made: a power of two from 512 on. Default: SQLite's, 4096. */
  readonly pageBytes?: number;
}

const MEMORY = ':memory:';
/** How long to wait for another process that holds the lock, in case it is just ending. */
const LOCK_WAIT_MS = 500;
const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;
/** Prepared statements kept per database; more means that SQL text is built from values. */
const STATEMENTS_MAX = 1024;
/** Of pages in the WAL at which a commit moves them into the database. */
const CHECKPOINT_BYTES = 16 * 1024 * 1024;

/** Real paths of the databases open in this process. */
const openPaths = new Set<string>();

/**
 * Opens the database at `path`, or makes it. **Throws** an Error for people when there is none (and `create`
 * is false), when it is another program's or of a newer format (it is then left as it was), or when another
 * process has it open.
 */
export function openDatabase(options: DatabaseOptions): Database {
  assert(options.formatVersion >= 1, 'format versions start at 1');
  if (options.path === MEMORY) return openMemory(options);
  const path = realPath(options.path);
  if (openPaths.has(path)) throw new DatabaseInUse(path);
  if (!existsSync(path)) {
    if (!options.create) throw new Error(`${path}: there is no database`);
    createFile(path, options);
  }
  checkHeader(path, options);
  try {
    checkWal(path, options);
    return openFile(path, options);
  } catch (error) {
    if (error instanceof FsError && error.code === 'EBUSY') throw new DatabaseInUse(path, error);
    throw error;
  }
}

function realPath(path: string): string {
  return join(realpathSync(dirname(path)), basename(path));
}

/** Another process has it open, or this one. */
export class DatabaseInUse extends Error {
  constructor(path: string, cause?: unknown) {
    super(`${path}: another process has this database open; stop it, or use another directory`, { cause });
  }
}

function openMemory(options: DatabaseOptions): Database {
  const db = new OpenDatabase(new Sqlite(MEMORY), MEMORY);
  migrate(db, 0, options);
  return db;
}

/** Builds the database under another name and links it into place. Two makers at once: the first one wins. */
function createFile(path: string, options: DatabaseOptions): void {
  const draft = `${path}.new-${process.pid}`;
  const removeDraft = (): void => {
    for (const suffix of ['', '-journal', '-wal', '-shm']) rmSync(draft + suffix, { force: true });
  };
  removeDraft();
  try {
    const db = new OpenDatabase(new Sqlite(draft), draft);
    try {
      db.pragma('synchronous = FULL');
      if (options.pageBytes !== undefined) db.pragma(`page_size = ${options.pageBytes}`);
      migrate(db, 0, options);
      db.pragma('journal_mode = WAL');
    } finally {
      db.close();
    }
    linkSync(draft, path);
    fsyncDirectory(dirname(path));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST'))
      throw translate(error, 'create');
  } finally {
    removeDraft();
  }
}

function fsyncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Refuses what is not ours by reading the header alone. **Source:** https://sqlite.org/fileformat2.html §1.3 */
function checkHeader(path: string, options: DatabaseOptions): void {
  const header = Buffer.alloc(100);
  const fd = openSync(path, 'r');
  try {
    if (readSync(fd, header, 0, 100, 0) < 100 || header.toString('latin1', 0, 16) !== 'SQLite format 3\0')
      throw new Error(`${path}: this is not a SQLite database; it was left as it is`);
  } finally {
    closeSync(fd);
  }
  checkIdentity(path, { applicationId: header.readInt32BE(68), version: header.readInt32BE(60) }, options);
}

/** An upgrade whose checkpoint did not happen has its version in the WAL only: look there, without writing. */
function checkWal(path: string, options: DatabaseOptions): void {
  if (!existsSync(`${path}-wal`)) return;
  const db = openRaw(path, { readonly: true });
  try {
    checkIdentity(path, identityOf(db), options);
  } finally {
    db.close();
  }
}

interface Identity {
  readonly applicationId: number;
  readonly version: number;
}

function identityOf(db: OpenDatabase): Identity {
  return { applicationId: db.pragma('application_id'), version: db.pragma('user_version') };
}

function checkIdentity(path: string, found: Identity, options: DatabaseOptions): void {
  if (found.applicationId !== options.applicationId)
    throw new Error(`${path}: this database belongs to another program; it was left as it is`);
  if (found.version > options.formatVersion)
    throw new Error(
      `${path}: this database has format ${found.version}, newer than format ${options.formatVersion} ` +
        'which this program knows; it was left as it is: use a newer leasefs',
    );
}

function openRaw(path: string, options: { readonly: boolean }): OpenDatabase {
  try {
    return new OpenDatabase(
      new Sqlite(path, { readonly: options.readonly, fileMustExist: true, timeout: LOCK_WAIT_MS }),
      path,
    );
  } catch (error) {
    throw translate(error, `open ${path}`);
  }
}

function openFile(path: string, options: DatabaseOptions): Database {
  const db = openRaw(path, { readonly: false });
  openPaths.add(path);
  try {
    if (options.exclusive ?? true) db.pragma('locking_mode = EXCLUSIVE');
    // Takes the lock now, instead of at the first write.
    db.exec('BEGIN IMMEDIATE; COMMIT');
    checkIdentity(path, identityOf(db), options);
    db.pragma('journal_mode = WAL');
    const pageBytes: number = db.pragma('page_size');
    db.pragma(`wal_autocheckpoint = ${Math.floor(CHECKPOINT_BYTES / pageBytes)}`);
    db.pragma('temp_store = MEMORY');
    db.pragma(`cache_size = -${Math.ceil((options.cacheBytes ?? DEFAULT_CACHE_BYTES) / 1024)}`);
    upgrade(db, options);
    db.pragma('synchronous = NORMAL');
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Migrates an older format; either way the WAL of an earlier process ends up synced into the database. */
function upgrade(db: OpenDatabase, options: DatabaseOptions): void {
  db.pragma('synchronous = FULL');
  const { version } = identityOf(db);
  if (version < options.formatVersion) migrate(db, version, options);
  db.pragma('wal_checkpoint(TRUNCATE)');
}

function migrate(db: OpenDatabase, fromVersion: number, options: DatabaseOptions): void {
  db.transaction(() => {
    options.migrate(db, fromVersion);
    db.pragma(`application_id = ${options.applicationId}`);
    db.pragma(`user_version = ${options.formatVersion}`);
  });
}

class OpenDatabase implements Database {
  readonly path: string;
  readonly #raw: Sqlite.Database;
  readonly #statements = new Map<string, Statement<unknown>>();
  #durable = false;

  constructor(raw: Sqlite.Database, path: string) {
    this.#raw = raw;
    this.path = path;
  }

  get inTransaction(): boolean {
    return this.#raw.inTransaction;
  }

  get isOpen(): boolean {
    return this.#raw.open;
  }

  /** Sets or asks; the first column of the first row, 0 when there is none. */
  pragma(text: string): number {
    return this.#guard(`PRAGMA ${text}`, () => Number(this.#raw.pragma(text, { simple: true }) ?? 0));
  }

  run(sql: string, ...params: SqlValue[]): { changes: number } {
    return this.prepare(sql).run(...params);
  }

  exec(sql: string): void {
    this.#guard('exec', () => this.#raw.exec(sql));
  }

  prepare<Row>(sql: string): Statement<Row> {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      assert(this.#statements.size < STATEMENTS_MAX, 'SQL texts are constants');
      statement = this.#makeStatement(sql);
      this.#statements.set(sql, statement);
    }
    // The row's shape is what the SQL text says; whoever writes the text names it.
    return statement as Statement<Row>;
  }

  #makeStatement(sql: string): Statement<unknown> {
    const guard = <T>(body: () => T): T => this.#guard(sql, body);
    const raw = guard(() => this.#raw.prepare<SqlValue[], unknown>(sql));
    return {
      get: (...params) => guard(() => raw.get(...params)),
      all: (...params) => guard(() => raw.all(...params)),
      iterate: (...params) => guardedRows(raw.iterate(...params), guard),
      run: (...params) => guard(() => ({ changes: raw.run(...params).changes })),
    };
  }

  transaction<T>(body: () => T): T {
    assert(!this.#raw.inTransaction, 'transactions do not nest');
    this.run('BEGIN IMMEDIATE');
    try {
      const result = body();
      if (result instanceof Promise) throw new InvariantError('a transaction returned a promise');
      this.run('COMMIT');
      return result;
    } catch (error) {
      if (this.#raw.open && this.#raw.inTransaction) this.run('ROLLBACK');
      throw error;
    }
  }

  setDurable(durable: boolean): void {
    if (durable === this.#durable) return;
    this.pragma(durable ? 'synchronous = FULL' : 'synchronous = NORMAL');
    this.#durable = durable;
  }

  close(): void {
    openPaths.delete(this.path);
    this.#guardClose(() => this.#raw.close());
  }

  #guardClose(close: () => void): void {
    try {
      close();
    } catch (error) {
      throw translate(error, `close ${this.path}`);
    }
  }

  #guard<T>(what: string, body: () => T): T {
    if (!this.#raw.open) throw new FsError('EIO', 'sqlite', { detail: `${this.path} is closed` });
    try {
      return body();
    } catch (error) {
      throw translate(error, what);
    }
  }
}

function* guardedRows<Row>(rows: IterableIterator<Row>, guard: <T>(body: () => T) => T): Generator<Row> {
  try {
    for (;;) {
      const step = guard(() => rows.next());
      if (step.done === true) return;
      yield step.value;
    }
  } finally {
    rows.return?.();
  }
}

/** Primary result codes that are the machine's or the disk's doing. **Source:** https://sqlite.org/rescode.html */
const ERRNOS: ReadonlyMap<string, ErrnoName> = new Map([
  ['FULL', 'ENOSPC'],
  ['IOERR', 'EIO'],
  ['CORRUPT', 'EIO'],
  ['NOTADB', 'EIO'],
  ['CANTOPEN', 'EIO'],
  ['PROTOCOL', 'EIO'],
  ['BUSY', 'EBUSY'],
  ['LOCKED', 'EBUSY'],
  ['READONLY', 'EROFS'],
  ['PERM', 'EACCES'],
  ['NOMEM', 'ENOMEM'],
]);

function codeOf(error: unknown): string {
  return error instanceof Sqlite.SqliteError ? error.code : '';
}

/** A foreign error as the rest of leasefs knows it; errors of our own pass as they are. */
function translate(error: unknown, what: string): unknown {
  const code = codeOf(error);
  if (code === '') return error;
  const primary = present(code.split('_')[1], 'SQLite codes have a second word');
  const errno = ERRNOS.get(primary);
  if (errno === undefined)
    return new InvariantError(`${code} from "${what}": ${error instanceof Error ? error.message : ''}`);
  return new FsError(errno, 'sqlite', { cause: error, detail: `${code}: ${what}` });
}
