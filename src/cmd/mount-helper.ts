/**
 * What mount(8) says to a helper program: `mount.leasefs SOURCE TARGET [-sfnv] [-N NAMESPACE] [-o OPTIONS]
 * [-t TYPE]`. **Source:** mount(8), "External helpers".
 */
export interface HelperRequest {
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
  /** -f: everything but the mount itself. */
  readonly fake: boolean;
}

/** The request in `args`; undefined when they are not understood. -N (another namespace) is not. */
export function parseHelperArgs(args: readonly string[]): HelperRequest | undefined {
  const positional: string[] = [];
  const options: string[] = [];
  let fake = false;
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    if (arg === '-o' || arg === '-t') {
      index += 1;
      const value = args[index];
      if (value === undefined) return undefined;
      if (arg === '-o') options.push(value);
    } else if (/^-[sfnv]+$/.test(arg)) fake ||= arg.includes('f');
    else if (arg.startsWith('-')) return undefined;
    else positional.push(arg);
  }
  const [source, target] = positional;
  if (source === undefined || target === undefined || positional.length > 2) return undefined;
  return { source, target, options, fake };
}
