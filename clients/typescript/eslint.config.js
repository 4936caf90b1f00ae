import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["**/build/", "dist/", "node_modules/", "src/gen/"] },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // Errors are passed on unchanged.
      "@typescript-eslint/prefer-promise-reject-errors": "off",
      "@typescript-eslint/only-throw-error": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // Messages may have enum numbers for which this version has no name.
      "@typescript-eslint/no-unsafe-enum-assignment": "off",
      // Callers in JavaScript have no compiler that checks their types.
      "@typescript-eslint/no-unnecessary-condition": "off",
      // `node:test` returns promises that it handles itself.
      "@typescript-eslint/no-floating-promises": [
        "error",
        {
          allowForKnownSafeCalls: [
            { from: "package", package: "node:test", name: ["test", "describe", "it", "suite"] },
          ],
        },
      ],
    },
  },
  {
    // The cases are JSON files, and JSON schemas check their types.
    files: [
      "tests/vectors.ts",
      "tests/web/{conduct.test,flow_options,scripted_authority,vectors.test}.ts",
    ],
    rules: {
      "@typescript-eslint/no-explicit-any": "off",
      "@typescript-eslint/no-unsafe-argument": "off",
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/no-unsafe-return": "off",
      "@typescript-eslint/restrict-template-expressions": "off",
    },
  },
);
