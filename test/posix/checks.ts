/** The whole table: every check by its name. */
import type { Check, Checks } from './check.js';
import { accessTimeChecks } from './checks/access-times.js';
import { aclChecks } from './checks/acl.js';
import { attributeChecks } from './checks/attributes.js';
import { dataChecks } from './checks/data.js';
import { directoryChecks } from './checks/directories.js';
import { linkChecks } from './checks/links.js';
import { lockChecks } from './checks/locks.js';
import { mappingChecks } from './checks/mapping.js';
import { nameChecks } from './checks/names.js';
import { openUnlinkedChecks } from './checks/open-unlinked.js';
import { permissionChecks } from './checks/permissions.js';
import { raceChecks } from './checks/races.js';
import { rangeChecks } from './checks/ranges.js';
import { removedChecks } from './checks/removed.js';
import { renameChecks } from './checks/rename.js';
import { sizeLimitChecks } from './checks/size-limits.js';
import { specialChecks } from './checks/special.js';
import { timeChecks } from './checks/times.js';
import { unnamedChecks } from './checks/unnamed.js';
import { xattrChecks } from './checks/xattrs.js';

const AREAS: Record<string, Checks> = {
  names: nameChecks,
  attributes: attributeChecks,
  times: timeChecks,
  'access-times': accessTimeChecks,
  data: dataChecks,
  ranges: rangeChecks,
  'size-limits': sizeLimitChecks,
  mapping: mappingChecks,
  directories: directoryChecks,
  links: linkChecks,
  rename: renameChecks,
  'open-unlinked': openUnlinkedChecks,
  removed: removedChecks,
  unnamed: unnamedChecks,
  xattrs: xattrChecks,
  acl: aclChecks,
  permissions: permissionChecks,
  special: specialChecks,
  races: raceChecks,
  locks: lockChecks,
};

/** Named `area: sentence`, in the order in which they run. */
export const checks: ReadonlyMap<string, Check> = new Map(
  Object.entries(AREAS).flatMap(([area, table]) =>
    Object.entries(table).map(([name, check]) => [`${area}: ${name}`, check] as const),
  ),
);
