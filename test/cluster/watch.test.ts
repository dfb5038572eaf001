/**
 * inotify: programs that watch a file or a directory hear that it was removed on another mount, and go on hearing
 * what is done on their own.
 */
import t from 'tap';
import { Cluster } from './cluster.js';
import { sh, start } from './on-mount.js';

t.setTimeout(120_000);

/** Watches what it is told, and says what it hears. */
const WATCH = `
const fs = require('node:fs');
for (const path of process.argv.slice(1))
  fs.watch(path, (event, name) => console.log(path + ': ' + event + ' ' + name + (fs.existsSync(path) ? '' : ', gone')));
console.log('watching');
`;

t.test('what another mount removes is heard of by those who watch it', { timeout: 100_000 }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'watch' });
  const [mount, other] = [await cluster.mount(), await cluster.mount()];
  const [here, there] = [{ cwd: mount.path }, { cwd: other.path }];
  const made = 'touch f replaced by linked open moved mine; ln linked link; mkdir d full; touch full/f';
  // Whoever has made them.
  for (const maker of [here, there]) {
    await sh(made, maker);
    const watched = ['f', 'replaced', 'linked', 'open', 'moved', 'mine', 'd', 'full', 'full/f'];
    const program = start(process.execPath, ['-e', WATCH, ...watched], { ...here, timeoutMs: 60_000 });
    await program.printed('watching');
    await sh('cat open', here);
    await sh('rm f link open; mv by replaced; mv moved full/moved; rmdir d; rm -r full/f', there);
    await program.printed('f: rename f, gone');
    await program.printed('replaced: rename replaced');
    await program.printed('open: rename open, gone');
    await program.printed('d: rename d, gone');
    await program.printed('full/f: rename f, gone');
    await sh('rm mine', here);
    const heard = await program.printed('mine: rename mine, gone');
    t.notMatch(
      heard,
      /linked: rename|moved: rename|full: rename full/,
      'what is still there is not reported',
    );
    program.signal('SIGKILL');
    await program.outcome;
    t.equal(await sh('stat -c %h linked; ls full', here), '1\nmoved\n');
    await sh('rm -r *', there);
    t.equal(await sh('ls', here), '');
  }
});
