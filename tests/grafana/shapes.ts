// What a dashboard's JSON must look like, by the types that Grafana publishes.
// A misspelt field is refused where a literal is assigned, which is what dashboards.ts consists of.
import type {
  AnnotationQuery,
  Dashboard,
  DataQuery,
  FieldConfigSource,
  Panel,
  RowPanel,
  VariableModel,
} from "@grafana/schema";
import type {
  FieldConfig as CurveFields,
  Options as CurveOptions,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type { Options as NumberOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";

/** JSON has strings where TypeScript has enums. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer E)[]
      ? Plain<E>[]
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

/** Grafana fills in what a dashboard leaves out, at every depth. */
type Filled<T> = T extends (infer E)[]
  ? Filled<E>[]
  : T extends object
    ? { [K in keyof T]?: Filled<T[K]> }
    : T;

/** What Grafana's Prometheus source reads of a query; its own types are not published. */
interface Query extends DataQuery {
  expr: string;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  interval?: string;
  legendFormat?: string;
  range?: boolean;
}

type Drawn<Kind extends string, Options, Fields> = Plain<Omit<Panel, "type" | "options" | "fieldConfig" | "targets">> & {
  type: Kind;
  options?: Filled<Plain<Options>>;
  fieldConfig?: Plain<Omit<FieldConfigSource, "defaults">> & {
    defaults: Plain<Omit<FieldConfigSource["defaults"], "custom">> & { custom?: Filled<Plain<Fields>> };
  };
  targets: Plain<Query>[];
};

export type TimeSeriesPanel = Drawn<"timeseries", CurveOptions, CurveFields>;
export type StatPanel = Drawn<"stat", NumberOptions, Record<string, never>>;
export type Row = Plain<RowPanel>;

/** What the Prometheus source reads beside the query; it is not published either. */
type Mark = Plain<Omit<AnnotationQuery, "target">> & {
  target: Plain<Query>;
  textFormat: string;
  titleFormat: string;
};

/** Only variables of intervals have these; Grafana's own builders write them into all. */
type Choice = Plain<VariableModel> & { auto: false; auto_count: number; auto_min: string };

export type Board = Plain<Omit<Dashboard, "annotations" | "panels" | "templating">> & {
  annotations: { list: Mark[] };
  templating: { list: Choice[] };
};

// A check that takes everything would show nothing: these are refused.
// @ts-expect-error
export const misspeltOption: TimeSeriesPanel = { type: "timeseries", targets: [], options: { legends: {} } };
// @ts-expect-error
export const misspeltField: StatPanel = { type: "stat", targets: [], titles: "Step" };
// @ts-expect-error
export const unknownChoice: TimeSeriesPanel = { type: "timeseries", targets: [], options: { legend: { displayMode: "wall" } } };
// @ts-expect-error
export const misspeltQuery: StatPanel = { type: "stat", targets: [{ refId: "A", expression: "up" }] };
// @ts-expect-error
export const misspeltBoard: Board = { schemaVersion: 41, annotations: { list: [] }, templating: { list: [] }, titles: "Run" };
