/**
 * The table of POSIX checks on a mount of a real cluster, run by a given user.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { checks } from '../posix/checks.js';
import type { Result } from '../posix/runner.js';
import { type ExpectedFailure, judge, runChecks } from '../posix/table.js';
import { Cluster, type MountSpec } from './cluster.js';
import type { ClusterProcess } from './cluster-process.js';
import { sh, type User } from './on-mount.js';

const RUNNER = fileURLToPath(new URL('../posix/runner.js', import.meta.url));
const SILENCE_MS = 200_000;
const TIMEOUT_MS = 400_000;

/** Thousands of files each: they try the filesystem's size, which is the same for everybody. */
const LARGE = [
  'directories: a directory of 1,500 entries is listed completely and once',
  'directories: entries that stay are listed once while others come and go',
  'directories: removing what was just listed removes everything',
  'directories: a deep tree is made and removed by programs',
  'links: a thousand links to one file',
  'races: nothing is lost when many fill and empty one directory',
];

export interface Setting {
  readonly name: string;
  readonly mount: MountSpec;
  /** Who runs the checks; the test's own user unless given. */
  readonly user?: User;
  readonly expected?: Readonly<Record<string, ExpectedFailure>>;
  /** Checks that cannot even be begun here (they would leave programs running), with the reason. */
  readonly leftOut?: Readonly<Record<string, string>>;
  readonly withLarge: boolean;
  /** How often the mount's daemon may die of foreign code, with the reason: it is mounted anew then. */
  readonly mayDie?: { readonly times: number; readonly reason: string };
  /** Only these areas; all of them unless given. */
  readonly areas?: readonly string[];
}

/** It may take a moment until its end is known. */
async function hasEnded(process: ClusterProcess): Promise<boolean> {
  await sleep(500);
  return !process.isRunning;
}

/** Run before the checks' own program: it is an ordinary user's from then on. */
const becoming = ({ uid, gid }: User): string =>
  `data:text/javascript,process.setgroups([]);process.setgid(${gid});process.setuid(${uid})`;

interface TableMount {
  readonly directory: string;
  readonly process: ClusterProcess;
  /** Removes what a check has left that was not ended. */
  readonly clear: () => Promise<unknown>;
}

/** The checks in `directory`, as the setting's user. */
async function table(t: Test, at: TableMount, setting: Setting): Promise<void> {
  const { directory } = at;
  const { user, expected = {}, leftOut = {} } = setting;
  for (const name of [...Object.keys(expected), ...Object.keys(leftOut), ...LARGE])
    if (!checks.has(name)) t.fail(`the table has no check "${name}"`);
  const wanted = [...checks.keys()].filter(
    (name) =>
      !(name in leftOut) &&
      (setting.withLarge || !LARGE.includes(name)) &&
      (setting.areas?.some((area) => name.startsWith(`${area}: `)) ?? true),
  );
  for (const [name, reason] of Object.entries(leftOut)) t.pass(name, { skip: reason });
  // An ordinary user may be unable to do what a check needs; root may not.
  const mustRun = process.geteuid?.() === 0 && user === undefined && process.env.CI !== undefined;
  const preload = user === undefined ? [] : ['--import', becoming(user)];
  let waiting = wanted;
  let deaths = 0;
  while (waiting.length > 0) {
    // A check that takes its process along is one that failed: the others are still to be run.
    const argv = [...preload, RUNNER, directory, ...waiting];
    const results: [name: string, result: Result][] = [];
    await runChecks({ argv, silenceMs: SILENCE_MS }, (name, result) => results.push([name, result]));
    const isBad = ([name, result]: [string, Result]): boolean => !judge(result, expected[name], mustRun).ok;
    const firstBad = results.findIndex(isBad);
    if (firstBad >= 0 && setting.mayDie !== undefined && (await hasEnded(at.process))) {
      deaths++;
      const { times, reason } = setting.mayDie;
      t.ok(deaths <= times, `the daemon died for the ${deaths}. time of at most ${times} (${reason})`);
      if (deaths > times) return;
      results.length = firstBad;
      await at.process.start();
      await at.clear();
    } else if (results.length === 0) {
      t.fail(`the runner did not begin with "${waiting[0]}"`);
      return;
    }
    for (const [name, result] of results) {
      const verdict = judge(result, expected[name], mustRun);
      const text = `${name}${verdict.text}`;
      if (verdict.ok && result.outcome === 'skipped') t.pass(text, { skip: result.message });
      else if (verdict.ok) t.pass(text);
      else t.fail(text, { failure: result.message });
    }
    waiting = waiting.slice(results.length);
  }
}

/** Runs the table once for each setting, on mounts of one cluster. */
export async function mountedTables(t: Test, settings: readonly Setting[]): Promise<void> {
  t.setTimeout(TIMEOUT_MS);
  const cluster = await Cluster.start(t, { name: 'posix' });
  // The root of a new filesystem belongs to root; whoever mounts as somebody else needs a directory.
  const first = await cluster.mount();
  for (const [index, setting] of settings.entries()) {
    await t.test(setting.name, { timeout: TIMEOUT_MS }, async (t) => {
      const name = `checks-${index}`;
      const { uid, gid } = setting.user ?? { uid: process.geteuid?.(), gid: process.getegid?.() };
      await sh(`mkdir ${name} && chown ${uid}:${gid} ${name}`, { cwd: first.path });
      const mount = await cluster.mount(setting.mount);
      const clear = (): Promise<unknown> => sh(`find ${name} -mindepth 1 -delete`, { cwd: first.path });
      await table(t, { directory: `${mount.path}/${name}`, process: mount.process, clear }, setting);
      t.equal(await sh(`ls -A ${name}`, { cwd: first.path }), '', 'the checks left nothing behind');
      await mount.process.stop();
    });
  }
  await t.test('the cluster is healthy afterwards', async (t) => {
    t.same((await cluster.status()).problems, []);
  });
}
