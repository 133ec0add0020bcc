import {
  status,
  type handleUnaryCall,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Empty } from "google-protobuf/google/protobuf/empty_pb.js";
import { Struct } from "google-protobuf/google/protobuf/struct_pb.js";
import { PluginInfo } from "@pulumi/pulumi/proto/plugin_pb.js";
import * as protocol from "@pulumi/pulumi/proto/provider_pb.js";
import * as command from "./command-resource";
import { diffInputs, type Change } from "./diff";
import type { EngineLog } from "./engine-log";
import { checkInputs } from "./inputs";
import type { Properties } from "./values";

const VERSION = "1.2.1";
const RESOURCE_TYPE = "command:local:Command";
/** `triggers` may hold resources and secrets: they are kept as they come. */
const ACCEPTS = { secrets: true, resources: true };

/**
 * Pulumi's provider protocol for `command:local:Command`. A provider of its own rather than the SDK's `provider.main`,
 * which knows neither previews, nor detailed differences, nor secrets, nor being cancelled.
 */
export function commandProvider(log: EngineLog): UntypedServiceImplementation {
  const cancelled = new AbortController();
  /** Runs for one resource: its lines go to the engine before its result does, and it dies with the call. */
  const withRun = async <T>(call: Call<unknown>, urn: string, work: (run: command.Run) => Promise<T>): Promise<T> => {
    const gone = new AbortController();
    call.on("cancelled", () => gone.abort());
    const signal = AbortSignal.any([gone.signal, cancelled.signal]);
    try {
      return await work({ onLine: (line) => log.status(urn, line), signal });
    } finally {
      await log.flush();
    }
  };
  return {
    ...configuration(),
    check: unary((request: protocol.CheckRequest) => {
      refuseOtherTypes(request.getUrn());
      const failures = checkInputs(toProperties(request.getNews())).map(({ property, reason }) =>
        new protocol.CheckFailure().setProperty(property).setReason(reason),
      );
      return new protocol.CheckResponse().setInputs(request.getNews()).setFailuresList(failures);
    }),
    diff: unary((request: protocol.DiffRequest) =>
      diffResponse(
        diffInputs(toProperties(request.getOlds()), toProperties(request.getNews()), request.getIgnorechangesList()),
      ),
    ),
    create: unary(async (request: protocol.CreateRequest, call) => {
      const inputs = toProperties(request.getProperties());
      const state = request.getPreview()
        ? await command.create(inputs, "preview")
        : await withRun(call, request.getUrn(), (run) => command.create(inputs, run));
      return new protocol.CreateResponse().setId(command.newId(request.getUrn())).setProperties(toStruct(state));
    }),
    update: unary(async (request: protocol.UpdateRequest, call) => {
      const olds = toProperties(request.getOlds());
      const kept = request.getIgnorechangesList().map((name) => [name, olds[name] ?? null] as const);
      const news = { ...toProperties(request.getNews()), ...Object.fromEntries(kept) };
      const state = request.getPreview()
        ? await command.update(olds, news, "preview")
        : await withRun(call, request.getUrn(), (run) => command.update(olds, news, run));
      return new protocol.UpdateResponse().setProperties(toStruct(state));
    }),
    delete: unary(async (request: protocol.DeleteRequest, call) => {
      const state = toProperties(request.getProperties());
      await withRun(call, request.getUrn(), (run) => command.remove(state, run));
      return new Empty();
    }),
    // A command has nothing to read: what is in the state is what is known.
    read: unary((request: protocol.ReadRequest) =>
      new protocol.ReadResponse()
        .setId(request.getId())
        .setProperties(request.getProperties())
        .setInputs(request.getInputs()),
    ),
    cancel: unary(() => {
      cancelled.abort();
      return new Empty();
    }),
  };
}

/** The calls before the first resource; the provider itself has no settings. */
function configuration(): UntypedServiceImplementation {
  return {
    handshake: unary(() =>
      new protocol.ProviderHandshakeResponse()
        .setAcceptSecrets(ACCEPTS.secrets)
        .setAcceptResources(ACCEPTS.resources)
        .setAcceptOutputs(false),
    ),
    getSchema: unary(() => new protocol.GetSchemaResponse().setSchema(JSON.stringify(schema()))),
    getPluginInfo: unary(() => new PluginInfo().setVersion(VERSION)),
    checkConfig: unary((request: protocol.CheckRequest) => new protocol.CheckResponse().setInputs(request.getNews())),
    diffConfig: unary(() => new protocol.DiffResponse().setChanges(protocol.DiffResponse.DiffChanges.DIFF_NONE)),
    configure: unary(() =>
      new protocol.ConfigureResponse()
        .setAcceptsecrets(ACCEPTS.secrets)
        .setAcceptresources(ACCEPTS.resources)
        .setAcceptoutputs(false)
        .setSupportspreview(true),
    ),
  };
}

function schema(): object {
  return { name: "command", version: VERSION, resources: { [RESOURCE_TYPE]: {} } };
}

function refuseOtherTypes(urn: string): void {
  const type = urn.split("::")[2]?.split("$").at(-1);
  if (type === RESOURCE_TYPE) return;
  throw new Error(
    `Tandem's offline plugin can't make this resource — got ${String(type)} — allowed: ${RESOURCE_TYPE} — fix: where the internet can be reached, pulumi plugin install resource command ${VERSION}`,
  );
}

function diffResponse(changes: readonly Change[]): protocol.DiffResponse {
  const { DIFF_SOME, DIFF_NONE } = protocol.DiffResponse.DiffChanges;
  const response = new protocol.DiffResponse()
    .setChanges(changes.length > 0 ? DIFF_SOME : DIFF_NONE)
    .setDiffsList([...new Set(changes.map(({ input }) => input))])
    .setReplacesList([...new Set(changes.filter(({ replaces }) => replaces).map(({ input }) => input))])
    .setHasdetaileddiff(true);
  for (const { path, kind, replaces } of changes) {
    response.getDetaileddiffMap().set(path, new protocol.PropertyDiff().setKind(diffKind(kind, replaces)));
  }
  return response;
}

function diffKind(kind: Change["kind"], replaces: boolean): protocol.PropertyDiff.Kind {
  const { Kind } = protocol.PropertyDiff;
  switch (kind) {
    case "add":
      return replaces ? Kind.ADD_REPLACE : Kind.ADD;
    case "delete":
      return replaces ? Kind.DELETE_REPLACE : Kind.DELETE;
    case "update":
      return replaces ? Kind.UPDATE_REPLACE : Kind.UPDATE;
  }
}

type Call<Request> = ServerUnaryCall<Request, unknown>;

function unary<Request, Response>(
  handle: (request: Request, call: Call<Request>) => Response | Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call: ServerUnaryCall<Request, Response>, answer: sendUnaryData<Response>) => {
    void (async () => handle(call.request, call))().then(
      (response) => answer(null, response),
      (error: unknown) =>
        answer({ code: status.UNKNOWN, details: error instanceof Error ? error.message : String(error) }),
    );
  };
}

function toProperties(struct: Struct | undefined): Properties {
  return struct?.toJavaScript() ?? {};
}

function toStruct(properties: Properties): Struct {
  return Struct.fromJavaScript(properties);
}
