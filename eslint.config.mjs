import js from "@eslint/js";
import pulumi from "@pulumi/eslint-plugin";
import tseslint from "typescript-eslint";

/** The table of docs/architecture.md: for each layer, the folders that it may not import. */
const layers = [
  { files: ["plan/**/*.ts"], forbidden: ["bootstrap", "components", "stacks", "cli", "policy"] },
  {
    files: ["bootstrap/runner/**/*.ts"],
    forbidden: ["bootstrap/engine", "engine", "components", "stacks", "cli", "policy"],
  },
  {
    files: ["bootstrap/engine/**/*.ts"],
    forbidden: ["bootstrap/runner", "runner", "plan", "components", "stacks", "cli", "policy"],
  },
  { files: ["components/**/*.ts"], forbidden: ["bootstrap/engine", "stacks", "cli", "policy"] },
  { files: ["stacks/**/*.ts"], forbidden: ["bootstrap/engine", "cli", "policy"] },
  { files: ["cli/**/*.ts"], forbidden: ["policy"] },
];

const shipped = ["plan", "bootstrap", "components", "stacks", "cli", "policy"];

/** One pattern of `no-restricted-imports`: relative imports that lead into one of the folders. */
function intoFolders(folders) {
  return {
    regex: `^\\.\\.?/(?:.*/)?(?:${folders.join("|")})(?:/|$)`,
    message: "This layer may not import that one: see the table in docs/architecture.md.",
  };
}

const notShipped = intoFolders(["test", "scripts", "examples"]);

const onlyHostStepUsesCommand = {
  regex: "^@pulumi/command(?:/|$)",
  message: "components/host-step.ts is the only user of @pulumi/command.",
};

function restrictImports(...patterns) {
  return { "@typescript-eslint/no-restricted-imports": ["error", { patterns }] };
}

const layerRules = layers.map(({ files, forbidden }) => ({
  files,
  rules: restrictImports(intoFolders(forbidden), notShipped, onlyHostStepUsesCommand),
}));

/** `plan/` calculates and nothing else: what it needs to know comes in as an argument. */
const planIsPure = {
  files: ["plan/**/*.ts"],
  rules: {
    ...restrictImports(intoFolders(layers[0].forbidden), notShipped, {
      regex: "^(?!zod(?:/|$)|\\.\\.?(?:/|$))",
      message: "plan/ is pure: it may import zod and itself only.",
    }),
    "no-restricted-globals": [
      "error",
      ...["process", "require", "fetch", "setTimeout", "setInterval", "console"].map((name) => ({
        name,
        message: "plan/ is pure: hand in what it needs as an argument.",
      })),
    ],
    "no-restricted-syntax": [
      "error",
      { selector: "ImportExpression", message: "plan/ is pure: no import at run time." },
      {
        selector: "NewExpression[callee.name='Date'][arguments.length=0]",
        message: "plan/ is pure: hand in the time.",
      },
      {
        selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
        message: "plan/ is pure: hand in the time.",
      },
      {
        selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
        message: "plan/ is pure: no chance.",
      },
    ],
  },
};

export default tseslint.config(
  { ignores: ["dist/", "coverage/", "node_modules/", "**/node_modules/", ".cache/"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    plugins: { "@pulumi": pulumi },
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@pulumi/no-output-in-template-literal": "error",
      "@pulumi/no-output-instance-in-template-literal": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", ignoreRestSiblings: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // Fires on every switch over a tagged union that has one member so far (`HostTarget`).
      "@typescript-eslint/no-unnecessary-condition": "off",
      eqeqeq: "error",
      "prefer-const": "error",
    },
  },
  {
    files: shipped.map((folder) => `${folder}/**/*.ts`),
    rules: {
      "max-lines": ["error", { max: 280, skipBlankLines: true, skipComments: false }],
      "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true, IIFEs: true }],
    },
  },
  ...layerRules,
  planIsPure,
  {
    files: ["components/host-step.ts"],
    rules: restrictImports(intoFolders(layers[3].forbidden), notShipped),
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // A test may say that a value is there: it fails with a clear message when it is not.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
    },
  },
  {
    files: ["**/*.mjs", "**/*.cjs", "**/*.js"],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: {
      globals: Object.fromEntries(
        ["process", "console", "URL", "Buffer", "setTimeout", "require", "module", "__dirname"].map((name) => [
          name,
          "readonly",
        ]),
      ),
    },
  },
);
