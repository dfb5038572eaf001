/**
 * The table of POSIX checks on a mount of a real cluster, run by a given user.
 */
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { checks } from '../posix/checks.js';
import { type ExpectedFailure, judge, runChecks } from '../posix/table.js';
import { Cluster, type MountSpec } from './cluster.js';
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
  /** Only these areas; all of them unless given. */
  readonly areas?: readonly string[];
}

/** Run before the checks' own program: it is an ordinary user's from then on. */
const becoming = ({ uid, gid }: User): string =>
  `data:text/javascript,process.setgroups([]);process.setgid(${gid});process.setuid(${uid})`;

/** The checks in `directory`, as the setting's user. */
async function table(t: Test, directory: string, setting: Setting): Promise<void> {
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
  while (waiting.length > 0) {
    // A check that takes its process along is one that failed: the others are still to be run.
    const argv = [...preload, RUNNER, directory, ...waiting];
    const done = await runChecks({ argv, silenceMs: SILENCE_MS }, (name, result) => {
      const verdict = judge(result, expected[name], mustRun);
      const text = `${name}${verdict.text}`;
      if (verdict.ok && result.outcome === 'skipped') t.pass(text, { skip: result.message });
      else if (verdict.ok) t.pass(text);
      else t.fail(text, { failure: result.message });
    });
    if (done === 0) {
      t.fail(`the runner did not begin with "${waiting[0]}"`);
      return;
    }
    waiting = waiting.slice(done);
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
      await table(t, `${mount.path}/${name}`, setting);
      t.equal(await sh(`ls -A ${name}`, { cwd: first.path }), '', 'the checks left nothing behind');
      await mount.process.stop();
    });
  }
  await t.test('the cluster is healthy afterwards', async (t) => {
    t.same((await cluster.status()).problems, []);
  });
}
