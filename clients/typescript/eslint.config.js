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
      // Errors pass through as they came.
      "@typescript-eslint/prefer-promise-reject-errors": "off",
      "@typescript-eslint/only-throw-error": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // The wire has numbers that this version has no name for.
      "@typescript-eslint/no-unsafe-enum-assignment": "off",
      // Callers in JavaScript have no compiler.
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
    // Cases are JSON, whose shape their schemas check.
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
